"""What the tests of containers share."""

from tests.launching import launch

__all__ = ["launch"]
