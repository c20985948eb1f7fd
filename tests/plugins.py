"""Packages with entry points, for tests of what Mesocosm takes from other packages; and those in the documentation."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def install(directory: Path, monkeypatch: pytest.MonkeyPatch, group: str, body: str, **names: str) -> None:
    """Installs a module of `body`, and entry points in `group`: each of `names` for what it is called in there."""
    module = f"plugin_{len(list(directory.iterdir()))}"
    (directory / f"{module}.py").write_text(body)
    information = directory / f"{module}-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    entries = "".join(f"{name} = {module}:{attribute}\n" for name, attribute in names.items())
    (information / "entry_points.txt").write_text(f"[{group}]\n{entries}")
    monkeypatch.syspath_prepend(directory)
    monkeypatch.delitem(sys.modules, module, raising=False)


def example(page: str, start: str, end: str) -> dict[str, Any]:
    """What the module defines that a page of the documentation shows from `start` up to `end`."""
    text = (DOCS / page).read_text()
    begin = text.index(start)
    names: dict[str, Any] = {}
    exec(compile(textwrap.dedent(text[begin : text.index(end, begin)]), page, "exec"), names)
    return names
