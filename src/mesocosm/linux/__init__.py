"""The Linux kernel, one module per facility: typed calls that raise OSError, and no policy."""
