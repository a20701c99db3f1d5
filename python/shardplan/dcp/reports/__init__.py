"""Reports of failed saves and loads, which list every fault instead of the first."""
