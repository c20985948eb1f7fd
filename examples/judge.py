"""Judges programs that nobody trusts: each gets an input, little memory and little time, and a verdict."""

import sys

import mesocosm

PYTHON = sys.executable
PROGRAMS = {
    "right": "print(sum(map(int, input().split())))",
    "wrong": "print(42)",
    "crashes": "raise SystemExit(3)",
    "loops": "while True: pass",
    "hoards": "x = b'x' * 500_000_000",
    "babbles": "while True: print('x' * 1000)",
    "forks": "import os\nwhile True: os.fork()",
}


def verdict(program: str) -> str:
    result = mesocosm.run(
        [PYTHON, "-c", program], input="20 22 1\n", mem="64MB", pids=16, timeout=1, max_output=100_000
    )
    if result.truncated:
        return "output limit exceeded"
    if result.limit == "timeout":
        return "time limit exceeded"
    if result.limit == "mem":
        return "memory limit exceeded"
    if not result.ok:
        return f"runtime error, exit status {result.exit_status}"
    return "accepted" if result.text == "43\n" else "wrong answer"


for name, program in PROGRAMS.items():
    print(f"{name:8} {verdict(program)}")
