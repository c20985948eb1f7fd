"""Processes of Python that do one thing for another one."""

from __future__ import annotations

import sys
from pathlib import Path

BOOTSTRAP = "import sys; sys.path.append(sys.argv.pop(1)); from {module} import main; main()"


def command(module: str, *arguments: str, site: bool = False) -> tuple[str, ...]:
    """What to execute so that `main` of a module of this package is called.

    The environment and the current directory add no modules to those of Python and of this package; those of other
    packages are there if `site`.
    """
    options = ("-I",) if site else ("-I", "-S")
    package_root = str(Path(__file__).parents[2])
    return (sys.executable, *options, "-c", BOOTSTRAP.format(module=module), package_root, *arguments)
