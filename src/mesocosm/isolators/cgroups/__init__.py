"""Isolators that use one cgroup controller each, on cgroup v1 and v2."""
