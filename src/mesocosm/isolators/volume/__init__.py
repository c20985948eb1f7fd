"""Isolators of volumes: what a container sees of other files."""
