"""Prints the closing line of "make test": the sum of what its steps have written.

    python -m tests.setup.summary RESULTS STEP...

Fails if anything failed, nothing passed, or a step left no results in the directory RESULTS.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.setup.junit import Counts


def main(directory: Path, steps: Sequence[str]) -> int:
    """Returns the exit status."""
    files = {step: directory / f"{step}.xml" for step in steps}
    missing = [step for step, file in files.items() if not file.exists()]
    for step in missing:
        sys.stderr.write(f"{step}: left no results\n")
    counts = sum((Counts.read(file) for file in files.values() if file.exists()), Counts())
    sys.stdout.write(f"{counts}\n")
    return 1 if missing or counts.failed or not counts.passed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
