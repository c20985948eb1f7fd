"""Answers of a real Mesos agent, as recorded in data/operator_api."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_name("data") / "operator_api"


def body(name: str) -> bytes:
    """What follows the headers."""
    return (DATA / f"{name}.http").read_bytes().partition(b"\n\n")[2].removesuffix(b"\n")


def answers() -> dict[str, dict[str, Any]]:
    """The answers of the v1 API that are one JSON object, by name."""
    found = {}
    for path in sorted(DATA.glob("*.http")):
        text = path.read_text()
        if not path.name.startswith("v0_") and "Content-Type: application/json" in text and not text.startswith("---"):
            found[path.stem] = json.loads(body(path.stem))
    return found
