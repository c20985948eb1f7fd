"""The build hook that adds to the page of the agent what it has from others: the terminal, as npm has it.

Versions and SHA-512 of the packages are in page/package-lock.json, and `npm ci` takes nothing else. Without npm, or
without a network, the page has no terminal, and says so.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VENDOR = "src/mesocosm/agent/web/vendor"
_SOURCE = "packaging/page"
_STAMP = "STAMP"
_PATIENCE = 180
_FILES = {
    "@xterm/xterm/lib/xterm.mjs": "xterm.mjs",
    "@xterm/xterm/css/xterm.css": "xterm.css",
    "@xterm/xterm/LICENSE": "xterm.LICENSE",
    "@xterm/addon-fit/lib/addon-fit.mjs": "addon-fit.mjs",
    "@xterm/addon-fit/LICENSE": "addon-fit.LICENSE",
}


class VendorHook(BuildHookInterface):
    """Gets the files unless they are there, also for an editable installation; wheels and source archives have them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Is called before each build. A missing terminal is no reason for there to be no agent."""
        root = Path(self.root)
        try:
            fetch(root / _SOURCE, root / VENDOR)
        except (OSError, subprocess.SubprocessError) as error:
            self.app.display_warning(f"the page of the agent will have no terminal: {_reason(error)}")
        build_data["artifacts"].append(f"/{VENDOR}/*")


def fetch(source: Path, vendor: Path) -> None:
    """Has the files in `vendor` that the lock file in `source` says. Raises OSError, SubprocessError."""
    lock = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()
    stamp = vendor / _STAMP
    if stamp.is_file() and stamp.read_text() == lock:
        return
    with tempfile.TemporaryDirectory() as directory:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, directory)
        argv = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(argv, cwd=directory, check=True, capture_output=True, text=True, timeout=_PATIENCE)
        vendor.mkdir(exist_ok=True)
        for path, name in _FILES.items():
            shutil.copyfile(Path(directory, "node_modules", path), vendor / name)
    stamp.write_text(lock)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "npm, which gets it, is not installed"
    if isinstance(error, subprocess.CalledProcessError):
        return f"npm says {' '.join(str(error.stderr).split())[-300:]}"
    return str(error)
