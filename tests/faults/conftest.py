"""What the tests of bad luck share."""

from tests.launching import launch

__all__ = ["launch"]
