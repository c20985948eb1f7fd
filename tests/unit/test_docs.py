"""The documentation: generated pages are up to date, every isolator has its page, and every link leads somewhere."""

from __future__ import annotations

import importlib.util
import re
import runpy
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.base import Isolator
from mesocosm.isolators.selection import built_in

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^( {4,}|\t).*$|`[^`\n]*`", re.MULTILINE)
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_flags_is_up_to_date() -> None:
    module = generator()
    assert module.PAGE.read_text() == module.render(), "run `python docs/generate.py`"


@pytest.mark.parametrize("name", built_in())
def test_every_isolator_has_its_page(name: str) -> None:
    page = DOCS / "isolators" / f"{name.replace('/', '-')}.md"
    assert page.read_text().startswith(f"# {name}\n")
    assert f"[{name}]({page.name})" in (DOCS / "isolators/README.md").read_text(), "it is not in the table"


def test_every_page_of_an_isolator_is_of_one() -> None:
    pages = {page.stem for page in (DOCS / "isolators").glob("*.md")} - {"README"}
    assert pages == {name.replace("/", "-") for name in built_in()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in links(page) if not leads_somewhere(page, link)]
    assert broken == []


@pytest.mark.parametrize("page", [page for page in PAGES if DOCS in page.parents], ids=lambda page: page.stem)
def test_every_page_can_be_found(page: Path) -> None:
    """From the README, by way of others."""
    seen: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo += [found for link in links(current) if (found := target(current, link)).suffix == ".md"]
    assert page in seen


@pytest.mark.parametrize("name", ["pyproject.toml", "acme_isolators.py"])
def test_the_example_of_an_isolator_is_the_one_in_its_package(name: str) -> None:
    text = (ROOT / "examples/acme-isolators" / name).read_text()
    assert textwrap.indent(text, "    ", str.strip) in (DOCS / "writing-an-isolator.md").read_text()


async def test_the_example_of_an_isolator_works() -> None:
    names = runpy.run_path(str(ROOT / "examples/acme-isolators/acme_isolators.py"))
    container = ContainerID("web")
    isolator: Isolator = names["DeadlineIsolator"].create(Flags())
    await isolator.prepare(container, ContainerConfig(CommandInfo("true"), environment={"DEADLINE": "0"}))
    watch = isolator.watch(container)
    assert watch is not None
    assert (await watch).message == "the deadline of 0 s is over"
    await isolator.cleanup(container)
    assert isolator.watch(container) is None
    with pytest.raises(ContainerError, match="is no number"):
        await isolator.prepare(container, ContainerConfig(CommandInfo("true"), environment={"DEADLINE": "soon"}))


def links(page: Path) -> list[str]:
    """The links of a page within the project."""
    text = _CODE.sub("", page.read_text())
    return [link for link in _LINK.findall(text) if not link.startswith(("http://", "https://"))]


def target(page: Path, link: str) -> Path:
    path = link.partition("#")[0]
    return (page.parent / path).resolve() if path else page


def leads_somewhere(page: Path, link: str) -> bool:
    found = target(page, link)
    anchor = link.partition("#")[2]
    return found.exists() and (not anchor or anchor in map(anchor_of, _HEADING.findall(found.read_text())))


def anchor_of(heading: str) -> str:
    """What a link to a heading is called, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
