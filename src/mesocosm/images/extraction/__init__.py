"""Unpacking layers: archives that nobody vouches for, by root, into the store."""
