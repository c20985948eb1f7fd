"""Isolators of what Linux lets a process do."""
