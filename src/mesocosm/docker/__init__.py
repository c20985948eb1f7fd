"""Containers of Docker: what is asked of them, and its command line as a client."""
