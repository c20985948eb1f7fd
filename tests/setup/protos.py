"""Writes the code of the messages next to their .proto files: `python -m tests.setup.protos`. Needs grpcio-tools."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src"
PROTOS = SOURCES / "mesocosm/api/protos"

_RUNTIME = (6, 31, 0)
"""The oldest protobuf that the code works with, as in pyproject.toml: newer compilers write the same but for this."""
_CHANGES = (
    # The pool: see mesocosm.api.pool.
    (r"from google\.protobuf import descriptor_pool\b.*", "from mesocosm.api.pool import POOL as _pool"),
    (r"_descriptor_pool\.Default\(\)", "_pool"),
    (r"(# Protobuf Python Version: )\S+", r"\g<1>" + ".".join(map(str, _RUNTIME))),
    (r"(Domain\.PUBLIC,\n)    \d+,\n    \d+,\n    \d+,", r"\1" + "\n".join(f"    {part}," for part in _RUNTIME)),
)


def generate(target: Path) -> list[Path]:
    """Writes the code below `target`, and returns the files. Raises CalledProcessError with protoc's words."""
    names = sorted(str(path.relative_to(SOURCES)) for path in PROTOS.glob("*.proto"))
    options = [f"-I{SOURCES}", f"--python_out={target}", f"--pyi_out={target}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *options, *names]
    subprocess.run(command, check=True, capture_output=True, text=True)
    modules = [target / name.replace(".proto", "_pb2.py") for name in names]
    for module in modules:
        module.write_text(_adapted(module.read_text()))
    return [*modules, *(module.with_suffix(".pyi") for module in modules)]


def _adapted(code: str) -> str:
    for pattern, replacement in _CHANGES:
        code, count = re.subn(pattern, replacement, code)
        assert count == 1, f"protoc writes other code than this knows: {pattern} is in it {count} times"
    return code


if __name__ == "__main__":
    generate(SOURCES)
