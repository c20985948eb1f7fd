"""A Docker volume plugin as a process of its own: volumes are directories, mounted by bind mounts.

    python volume_plugin.py SOCKET DIRECTORY

What is asked of it is written to DIRECTORY/calls, a line each. A volume that is called `hang`, `garbage`, `fail` or
`die` makes `Mount` do that; one that is called `stuck` makes `Unmount` fail as long as DIRECTORY/stuck exists.
"""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


class Plugin(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, directory: Path) -> None:
        self.directory = directory
        self.created: set[str] = set()
        super().__init__(path, Handler)

    def answer(self, method: str, request: dict[str, Any]) -> dict[str, Any] | None:
        with (self.directory / "calls").open("a") as calls:
            calls.write(f"{method} {json.dumps(request, sort_keys=True)}\n")
        if method == "Plugin.Activate":
            return {"Implements": ["VolumeDriver"]}
        name = request["Name"]
        volume, mountpoint = self.directory / "volumes" / name, self.directory / "mounts" / name
        match method.removeprefix("VolumeDriver."):
            case "Get":
                return {"Err": "" if volume.exists() else "no such volume"}
            case "Create":
                volume.mkdir(parents=True)
            case "Path":
                return {"Mountpoint": str(mountpoint), "Err": ""}
            case "Mount":
                return self.mount(name, volume, mountpoint)
            case "Unmount":
                if name == "stuck" and (self.directory / "stuck").exists():
                    return {"Err": "it is in use"}
                subprocess.run(["umount", mountpoint], check=True)
        return {"Err": ""}

    def mount(self, name: str, volume: Path, mountpoint: Path) -> dict[str, Any] | None:
        match name:
            case "garbage":
                return None
            case "fail":
                return {"Err": "it is broken"}
            case "die":
                os._exit(1)
            case "hang":
                threading.Event().wait()
        mountpoint.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", volume, mountpoint], check=True)
        return {"Mountpoint": str(mountpoint), "Err": ""}


class Handler(BaseHTTPRequestHandler):
    server: Plugin

    def address_string(self) -> str:
        return "plugin"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.answer(self.path.strip("/"), json.loads(body or b"{}"))
        data = b"<html>" if answer is None else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    with Plugin(sys.argv[1], Path(sys.argv[2])) as plugin:
        print("ready", flush=True)  # noqa: T201
        plugin.serve_forever()
