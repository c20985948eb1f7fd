"""The files of the page: what they must not do, whatever a browser would say to it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from mesocosm.agent import web

ROOT = Path(web.__file__).parent
REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted(ROOT.glob("*.js"))

_HTML = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc|setHTML"
    r"|\beval\(|new Function|javascript:"
)
_IMPORT = re.compile(r"""(?:from|import)\s*\(?\s*["'](\.[^"']+)["']""")
_ELSEWHERE = re.compile(r"""["'(](?:https?:)?//[^"')]+""")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_text_never_becomes_html_or_a_program(script: Path) -> None:
    assert _HTML.findall(script.read_text()) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_imports_are_files_of_the_page(script: Path) -> None:
    imported = [name for name in _IMPORT.findall(script.read_text()) if not name.startswith("./vendor/")]
    assert [name for name in imported if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("file", [*SCRIPTS, ROOT / "style.css", ROOT / "index.html"], ids=lambda path: path.name)
def test_nothing_is_elsewhere(file: Path) -> None:
    assert set(_ELSEWHERE.findall(file.read_text())) <= {'"http://www.w3.org/2000/svg'}


def test_the_page_has_no_program_in_its_html() -> None:
    text = (ROOT / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|\son\w+=|style=", text) == []


def test_what_others_wrote_is_pinned() -> None:
    """By the hash of what npm may deliver; and the files that are there are those of this list."""
    lock = REPOSITORY / "packaging/page/package-lock.json"
    packages = {name: entry for name, entry in json.loads(lock.read_text())["packages"].items() if name}
    assert set(packages) == {"node_modules/@xterm/addon-fit", "node_modules/@xterm/xterm"}
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    if not (stamp := ROOT / "vendor/STAMP").exists():
        pytest.skip("needs the terminal, which npm gets when Mesocosm is installed")
    assert stamp.read_text() == hashlib.sha256(lock.read_bytes()).hexdigest()
