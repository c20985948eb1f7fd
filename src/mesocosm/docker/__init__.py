"""Containers of Docker: its command line as a client, and what is asked of it; and the volumes of its plugins.

The executor of Docker's tasks uses this package, too: what is imported here is the standard library's.
"""
