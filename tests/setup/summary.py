"""Prints the closing line of "make test", the sum of the results in a directory; fails if any failed or none passed."""

import sys
from pathlib import Path

from tests.setup.junit import Counts


def main(directory: Path) -> int:
    """Returns the exit status."""
    counts = sum((Counts.read(file) for file in directory.glob("*.xml")), Counts())
    sys.stdout.write(f"{counts}\n")
    return 1 if counts.failed or not counts.passed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
