"""What the tests without privileges share."""

from tests.third_party import third_party

__all__ = ["third_party"]
