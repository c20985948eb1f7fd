"""Prints the end of "make test": what failed, and what did so once, in a line each, and the sum of all results.

    python -m tests.setup.summary RESULTS STEP...

Fails if anything failed, nothing passed, or a step left no results in the directory RESULTS.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.setup.junit import Counts, failures, passed_at_last

MOST_LINES = 20
LINE_LENGTH = 240


def main(directory: Path, steps: Sequence[str]) -> int:
    """Returns the exit status."""
    files = {step: directory / f"{step}.xml" for step in steps}
    missing = [step for step, file in files.items() if not file.exists()]
    for step in missing:
        sys.stderr.write(f"{step}: left no results\n")
    written = {step: file for step, file in files.items() if file.exists()}
    _list("failed once, and not when run again", written, passed_at_last)
    _list("failed", written, failures)
    counts = sum(map(Counts.read, written.values()), Counts())
    sys.stdout.write(f"{counts}\n")
    return 1 if missing or counts.failed or not counts.passed else 0


def _list(what: str, written: Mapping[str, Path], find: Callable[[Path], list[str]]) -> None:
    lines = [f"{what}: {step}: {line}" for step, file in written.items() for line in find(file)]
    for line in lines[:MOST_LINES]:
        sys.stdout.write(f"{line[:LINE_LENGTH]}\n")
    if len(lines) > MOST_LINES:
        sys.stdout.write(f"and {len(lines) - MOST_LINES} more\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
