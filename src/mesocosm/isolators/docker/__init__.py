"""Isolators of Docker images."""
