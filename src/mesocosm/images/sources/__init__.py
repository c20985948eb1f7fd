"""Where images come from: registries, and archives and layouts on this machine."""
