"""Runs PyTorch's own tests of torch.distributed.checkpoint on upstream and on shardplan."""
