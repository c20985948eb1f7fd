"""Isolators: one file each, at the path of its name."""
