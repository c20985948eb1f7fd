"""The client of registries: the distribution protocol of Docker and OCI."""
