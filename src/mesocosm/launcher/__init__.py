"""Launchers: they fork, kill and find the processes of containers."""
