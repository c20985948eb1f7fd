"""Isolators that give a container a namespace of its own, or its parent's."""
