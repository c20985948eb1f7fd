"""Container loggers: where the output of containers goes."""
