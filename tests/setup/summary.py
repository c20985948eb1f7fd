"""Prints the end of "make test": what failed, in a line each, and the sum of what its steps have written.

    python -m tests.setup.summary RESULTS STEP...

Fails if anything failed, nothing passed, or a step left no results in the directory RESULTS.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.setup.junit import Counts, failures

MOST_FAILURES = 20
LINE_LENGTH = 240


def main(directory: Path, steps: Sequence[str]) -> int:
    """Returns the exit status."""
    files = {step: directory / f"{step}.xml" for step in steps}
    missing = [step for step, file in files.items() if not file.exists()]
    for step in missing:
        sys.stderr.write(f"{step}: left no results\n")
    written = {step: file for step, file in files.items() if file.exists()}
    failed = [f"{step}: {failure}" for step, file in written.items() for failure in failures(file)]
    for line in failed[:MOST_FAILURES]:
        sys.stdout.write(f"{line[:LINE_LENGTH]}\n")
    if len(failed) > MOST_FAILURES:
        sys.stdout.write(f"and {len(failed) - MOST_FAILURES} more\n")
    counts = sum(map(Counts.read, written.values()), Counts())
    sys.stdout.write(f"{counts}\n")
    return 1 if missing or counts.failed or not counts.passed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
