"""Frameworks that save through torch.distributed.checkpoint, on upstream and on shardplan."""
