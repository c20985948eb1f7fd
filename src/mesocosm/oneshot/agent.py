"""An agent for one command line: of its own directories, reached by nobody else, and gone with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from mesocosm.errors import MesocosmError
from mesocosm.linux import prctl
from mesocosm.oneshot.choice import Choice
from mesocosm.oneshot.images import RUNTIME
from mesocosm.oneshot.network import PLUGINS
from mesocosm.oneshot.place import Place

PRINCIPAL = "owner"
_SOCKET, _LOG, _NOTIFICATIONS = "agent.sock", "agent.log", "notify.sock"
_CREDENTIALS, _KEY = "credentials", "key"
_READY = b"READY=1"


class PrivateAgentError(MesocosmError):
    """The agent ended before it was ready."""


@contextlib.asynccontextmanager
async def private_agent(place: Place, choice: Choice) -> AsyncGenerator[tuple[Path, str], None]:
    """An agent in the `place`, which is made and removed: its Unix socket, and the secret of the PRINCIPAL.

    It ends, with all that it runs, also should this process be killed. Raises MesocosmError, OSError.
    """
    place.create(",".join(choice.isolation), choice.launcher)
    try:
        secret = secrets.token_hex()
        _write_secret(place.directory / _CREDENTIALS, json.dumps(_credentials(secret)))
        _write_secret(place.directory / _KEY, secrets.token_hex())
        process = await _start(place, choice)
        try:
            yield place.directory / _SOCKET, secret
        finally:
            await _end(process)
    finally:
        place.remove()


def _credentials(secret: str) -> dict[str, list[dict[str, str]]]:
    return {"credentials": [{"principal": PRINCIPAL, "secret": secret}]}


def _write_secret(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text)


async def _start(place: Place, choice: Choice) -> asyncio.subprocess.Process:
    """Starts it, and returns when it has said that it is ready. Raises PrivateAgentError, OSError."""
    log = place.directory / _LOG
    with log.open("wb") as output, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind(str(place.directory / _NOTIFICATIONS))
        notifications.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            *_command_line(place, choice),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(place),
            start_new_session=True,  # What the user types at the terminal is for this process.
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            pass_fds=place.held,  # So that nobody takes the place for abandoned before the agent has ended, too.
        )
        try:
            await _until_ready(process, notifications, log)
        except BaseException:
            await _end(process)
            raise
    return process


async def _until_ready(process: asyncio.subprocess.Process, notifications: socket.socket, log: Path) -> None:
    """Raises PrivateAgentError if it ends before."""
    ready = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(notifications, 64))
    ended = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait([ready, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done() or not ready.result().startswith(_READY):
            raise PrivateAgentError(_last_line(log))
    finally:
        ready.cancel()
        ended.cancel()
        await asyncio.wait([ready, ended])  # Before the socket is closed that one of them looks at.


async def _end(process: asyncio.subprocess.Process) -> None:
    """Has it destroy all that it runs."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGUSR1)
    await process.wait()


def _command_line(place: Place, choice: Choice) -> list[str]:
    flags: dict[str, object] = {
        "work_dir": place.work_dir,
        "runtime_dir": place.state,
        "cgroups_root": place.cgroups_root,
        "isolation": ",".join(choice.isolation),
        "launcher": choice.launcher,
        "docker_store_dir": place.store,
        "fetcher_cache_dir": place.directory / "fetch",
        "ip": "127.0.0.1",
        "port": 0,
        "operator_socket": place.directory / _SOCKET,
        "authenticate_http_readonly": "true",
        "authenticate_http_readwrite": "true",
        "http_credentials": place.directory / _CREDENTIALS,
        "authenticate_http_executors": "true",
        "jwt_secret_key": place.directory / _KEY,
        "hostname_lookup": "false",
        "switch_user": "true" if os.geteuid() == 0 else "false",
    }
    if RUNTIME in choice.isolation:
        flags["image_providers"] = "docker"
    if place.docker_socket is not None:
        flags |= {"containerizers": "mesos,docker", "docker_socket": place.docker_socket}
        flags |= {"docker_kill_orphans": "false", "docker_remove_delay": "0secs"}
    if place.networks is not None:
        flags |= {"network_cni_config_dir": place.networks, "network_cni_plugins_dir": PLUGINS}
    return [sys.executable, "-m", "mesocosm", "agent", *(f"--{name}={value}" for name, value in flags.items())]


def _environment(place: Place) -> dict[str, str]:
    """Without the flags that a user has set for another agent."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MESOS_", "LIBPROCESS_"))}
    return {**kept, "NOTIFY_SOCKET": str(place.directory / _NOTIFICATIONS)}


def _die_with_parent() -> None:
    prctl.signal_at_end_of_parent(signal.SIGUSR1)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1].removeprefix("mesocosm: ") if lines else "the agent ended without a word"
