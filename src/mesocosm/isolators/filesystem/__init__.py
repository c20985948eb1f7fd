"""Isolators of the file system that a container sees."""
