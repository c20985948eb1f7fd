"""Runs one step of "make test" and sees to it that its results tell what happened.

    python -m tests.setup.step --limit SECONDS RESULTS COMMAND...

RESULTS is a file that the command may write, as JUnit XML. A command that writes none counts as one test; one that
fails without a failed test (it crashed, or ran into the limit) gets one added. Exit status 77 is the command's word
for "does not apply to this machine": the step is skipped. The step's own exit status is the command's.
"""

import argparse
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree.ElementTree import ParseError

from tests.setup import junit

SKIPPED = 77
# From the interrupt after which pytest cleans up and writes its results, to the kill.
GRACE_SECONDS = 30


def main() -> int:
    """Runs the step described by the command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="tests.setup.step")
    parser.add_argument("--limit", type=float, required=True, help="seconds until the command is interrupted")
    parser.add_argument("results", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    results: Path = options.results
    results.parent.mkdir(parents=True, exist_ok=True)
    results.unlink(missing_ok=True)
    sys.stdout.write(f"{results.stem}: {shlex.join(options.command)}\n")
    sys.stdout.flush()
    status, outcome = _run(options.command, options.limit)
    if status == SKIPPED:
        junit.add(results, results.stem, "skipped", outcome)
        return 0
    if status == 0:
        if not results.exists():
            junit.add(results, results.stem, "passed", outcome)
        return 0
    sys.stderr.write(f"{results.stem}: {outcome}\n")
    if not _has_failure(results):
        junit.add(results, results.stem, "failed", outcome)
    return status


def _run(command: list[str], limit: float) -> tuple[int, str]:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            return 1, f"interrupted: did not end within {limit:g} s"
    return status, f"exit status {status}"


def _has_failure(results: Path) -> bool:
    try:
        return junit.Counts.read(results).failed > 0
    except (FileNotFoundError, ParseError):
        return False


if __name__ == "__main__":
    sys.exit(main())
