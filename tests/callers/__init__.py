"""Frameworks that save through torch.distributed.checkpoint, on stock torch and on shardplan."""
