"""tests/parity.toml: which of our tests assert what Mesos's own do."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARITY = ROOT / "tests/parity.toml"
DATA = Path(__file__).with_name("data") / "mesos_test_cases.txt"
CASES = {case: file for file, case in map(str.split, DATA.read_text().splitlines())}

_SECTION = re.compile(r"# (\S+_tests\.cpp)$")
_ROW = re.compile(r'"([^"]+)" *=')
_NAMED = re.compile(r"(?P<file>tests/[\w/]+\.py)|\btest_\w+")


def test_every_key_is_a_case_of_mesos() -> None:
    assert sorted(rows().keys() - CASES.keys()) == []


def test_every_value_is_tests_or_a_reason() -> None:
    assert [case for case, value in rows().items() if not (is_reason(value) or is_tests(value))] == []


def test_every_test_exists() -> None:
    named = [(case, test) for case, value in rows().items() if isinstance(value, list) for test in value]
    assert [f"{case}: {test}" for case, test in named if not exists(test)] == []


def test_every_test_that_a_reason_names_exists() -> None:
    reasons = {case: value for case, value in rows().items() if isinstance(value, str)}
    assert {case: names for case, reason in reasons.items() if (names := missing(reason))} == {}


def test_every_row_stands_below_its_file() -> None:
    section, sections, misplaced = "", [], []
    for line in PARITY.read_text().splitlines():
        if found := _SECTION.match(line):
            section = found[1]
            sections.append(section)
        elif (found := _ROW.match(line)) and CASES.get(found[1], section) != section:
            misplaced.append(found[1])
    assert misplaced == []
    assert sections == list(dict.fromkeys(CASES.values())), "a section for each file, in Mesos's order"


def test_a_test_that_does_not_exist_is_noticed() -> None:
    here = "tests/unit/test_parity.py"
    assert exists(f"{here}::test_a_test_that_does_not_exist_is_noticed")
    assert exists("tests/kernel/test_oneshot.py::TestRun::test_binary_data[any-parameters]")
    assert exists(f"{here}::test_that_is_not_there") is False
    assert exists(f"{here}::rows") is False
    assert exists("tests/unit/test_no_such_file.py::test_it") is False
    assert missing(f"it is as {here}::test_every_test_exists sees") == []
    assert missing(f"see test_every_test_exists and test_none of {here}") == ["test_none"]
    assert missing("as test_every_test_exists sees, of a file that is not named") == ["test_every_test_exists"]
    assert missing("see tests/unit/test_no_such_file.py") == ["tests/unit/test_no_such_file.py"]


@functools.cache
def rows() -> dict[str, object]:
    return tomllib.loads(PARITY.read_text())


def is_reason(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def is_tests(value: object) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(test, str) for test in value)


def exists(test: str) -> bool:
    """Whether there is a test of this id, whatever its parameters."""
    path, _, name = test.partition("[")[0].partition("::")
    return name in names_in(ROOT / path)


def missing(reason: str) -> list[str]:
    """The files and tests that a reason names and that there are not; a test is to be in one of those files."""
    named = list(_NAMED.finditer(reason))
    files = [found["file"] for found in named if found["file"]]
    known = {name for file in files for name in names_in(ROOT / file)} | set(filter(is_file, files))
    return [found[0] for found in named if found[0] not in known]


def is_file(path: str) -> bool:
    return (ROOT / path).is_file()


@functools.cache
def names_in(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    return frozenset(named_tests(ast.parse(path.read_text()).body))


def named_tests(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from (f"{node.name}::{name}" for name in named_tests(node.body))
