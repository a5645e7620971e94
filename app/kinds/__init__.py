"""The kinds of series, one file each: all that is special about one stands there and nowhere else."""
