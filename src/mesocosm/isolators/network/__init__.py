"""Isolators of networks: interfaces, addresses, ports."""
