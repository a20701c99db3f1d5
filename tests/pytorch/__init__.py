"""Runs PyTorch's own tests of torch.distributed.checkpoint on stock torch and on shardplan."""
