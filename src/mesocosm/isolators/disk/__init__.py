"""Isolators of disk space."""
