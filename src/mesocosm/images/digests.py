"""Digests as names: `sha256:…`."""

from __future__ import annotations

import hashlib
import re

from mesocosm.images.errors import DigestError, ImageError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def is_digest(text: str) -> bool:
    """Whether `text` is a digest that can be verified."""
    return _DIGEST.fullmatch(text) is not None


def checked(text: object) -> str:
    """`text`, if it is a digest that can be verified, and so can be part of a path. Raises ImageError."""
    if not isinstance(text, str) or not is_digest(text):
        raise ImageError(f"{text!r} is no digest that can be verified", "sha256 and sha512 can be")
    return text


def of(data: bytes) -> str:
    """The digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def verify(data: bytes, digest: str, what: str) -> None:
    """Raises DigestError if `digest` is not that of `data`."""
    algorithm, _, expected = checked(digest).partition(":")
    if (found := hashlib.new(algorithm, data).hexdigest()) != expected:
        raise DigestError(
            f"{what} is not what it should be: its {algorithm} is {found}, and not {expected}",
            "it was damaged or replaced",
        )
