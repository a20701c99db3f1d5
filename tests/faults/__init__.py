"""Faults on real processes, with torch and with shardplan: ``make faults N=2000``."""
