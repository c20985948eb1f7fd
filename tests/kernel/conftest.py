"""What the tests of containers share."""

from tests.kernel.cgroup_support import legacy
from tests.launching import launch

__all__ = ["launch", "legacy"]
