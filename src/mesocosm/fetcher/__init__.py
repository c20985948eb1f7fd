"""Fetches the URIs of a command into its sandbox, as its user, through a cache."""
