"""Results of tests as JUnit XML, as pytest and many others write them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from xml.etree import ElementTree

Verdict = Literal["passed", "failed", "skipped"]
_FAILED = {"failure", "error"}
FAILED_BEFORE = "failed before"
"""The property of a test that is run again: how it had failed."""


@dataclass(frozen=True)
class Counts:
    """How many tests ended how; an error in a fixture is a failure."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    @classmethod
    def read(cls, file: Path) -> Self:
        """Counts the results in `file`. Raises OSError, or ElementTree.ParseError if it is incomplete."""
        verdicts = [_verdict(case) for case in _cases(file)]
        return cls(*(verdicts.count(verdict) for verdict in ("passed", "failed", "skipped")))

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def failures(file: Path) -> list[str]:
    """A line for each test in `file` that failed. Raises OSError, or ElementTree.ParseError if it is incomplete."""
    return [_line(case, child.get("message", "")) for case in _cases(file) for child in case if child.tag in _FAILED]


def passed_at_last(file: Path) -> list[str]:
    """A line for each test that did not fail again when it was run again. Raises as above."""
    return [
        _line(case, child.get("value", ""))
        for case in _cases(file)
        for child in case.iter("property")
        if child.get("name") == FAILED_BEFORE and _verdict(case) != "failed"
    ]


def add(file: Path, name: str, verdict: Verdict, message: str) -> None:
    """Adds a test called `name` to the results in `file`, made if absent or incomplete. Raises OSError."""
    try:
        suites = ElementTree.parse(file).getroot()
    except (FileNotFoundError, ElementTree.ParseError):
        suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(suites, "testsuite", name=name)
    case = ElementTree.SubElement(suite, "testcase", name=name)
    if verdict != "passed":
        ElementTree.SubElement(case, "failure" if verdict == "failed" else "skipped", message=message)
    ElementTree.ElementTree(suites).write(file, encoding="unicode")


def _cases(file: Path) -> Collection[ElementTree.Element]:
    """Of a test that was run again, the last."""
    cases = ElementTree.parse(file).iter("testcase")
    return {(case.get("classname"), case.get("name")): case for case in cases}.values()


def _verdict(case: ElementTree.Element) -> Verdict:
    outcomes = {child.tag for child in case}
    if outcomes & _FAILED:
        return "failed"
    return "skipped" if "skipped" in outcomes else "passed"


def _line(case: ElementTree.Element, text: str) -> str:
    return f"{'::'.join(filter(None, map(case.get, ('classname', 'name'))))}: {' '.join(text.split())}"
