"""Where the messages are registered."""

from __future__ import annotations

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
"""A pool of our own: in protobuf's default one, another package with messages of `mesos.v1` would clash with ours."""
