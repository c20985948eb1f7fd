"""Isolators for any POSIX system: they report usage and isolate nothing."""
