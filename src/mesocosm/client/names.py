"""Ids of containers that are cut short."""

from __future__ import annotations


def abbreviates(text: str, container_id: str) -> bool:
    """Whether `text` can mean the container: it has the beginning of each part of the id, or all of it."""
    parts, names = text.split("."), container_id.split(".")
    return len(parts) == len(names) and all(
        part and name.startswith(part) for part, name in zip(parts, names, strict=True)
    )


def may_be_within(text: str, container_id: str) -> bool:
    """The same, or whether the container is nested in one that `text` can mean."""
    return abbreviates(text, ".".join(container_id.split(".")[: text.count(".") + 1]))
