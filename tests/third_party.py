"""Isolators of other packages, for tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ThirdParty = Callable[[str, str], None]
ISOLATOR = "from mesocosm.isolators.base import Isolator\nclass Mine(Isolator):\n    {body}\n"


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThirdParty:
    """Installs packages with an isolator each, of a name and a module's text."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, body: str) -> None:
        module = f"third_party_{len(list(tmp_path.iterdir()))}"
        (tmp_path / f"{module}.py").write_text(body)
        information = tmp_path / f"{module}-1.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        (information / "entry_points.txt").write_text(f"[mesocosm.isolators]\n{name} = {module}:Mine\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install
