"""`mesocosm run --agent`: a container of an agent, from its launch to its removal."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import signal
import threading
from collections.abc import Iterator
from dataclasses import fields

import click

from mesocosm.cli.agent_option import address_given
from mesocosm.cli.calls import command_info, identity, terminal_info
from mesocosm.cli.conversation import DETACH_KEYS, Conversation, DetachKeys, Piece, tell_of_leaving
from mesocosm.cli.execution import TIMED_OUT, Options
from mesocosm.cli.messages import complain
from mesocosm.cli.options import OF_AGENT
from mesocosm.cli.shown import exit_status
from mesocosm.cli.signals import forwarded
from mesocosm.client import Json
from mesocosm.client.address import Address, AgentError, LostError
from mesocosm.client.connection import Connection, persistently
from mesocosm.errors import FlagError
from mesocosm.oneshot.images import Pull, parse_pull
from mesocosm.oneshot.network import choose as choose_networks
from mesocosm.oneshot.request import check_limits, parse_volume
from mesocosm.oneshot.security import parse_rlimit
from mesocosm.units import format_duration, parse_duration, parse_size

_SERVED = frozenset(
    {
        *OF_AGENT,
        *("command", "name", "env", "user", "cpus", "mem", "disk", "volume", "image", "pull"),
        *("network", "publish", "hostname", "rlimit", "timeout", "interactive", "tty"),
    }
)
"""The options that an agent is asked for."""
_MB = 1 << 20
_BEYOND = 416
"""What the agent answers where a file has not got so far."""
_WAITING = 16
"""Pieces of output that may wait until they can be written."""


def run_remotely(options: Options) -> int:
    """Runs the container; returns the exit status of `mesocosm run`. Raises MesocosmError, OSError."""
    for entry in fields(Options):
        if entry.name not in _SERVED and getattr(options, entry.name) not in (entry.default, ()):
            name = f"--{entry.name.replace('_', '-')}"
            raise FlagError(f"{name} does not go with --agent", "leave it out, or run it here")
    if options.interactive and options.tty and not os.isatty(0):
        raise FlagError("-t: the standard input is no terminal", "leave -t out, or -i")
    if options.detach and options.timeout is not None:
        raise FlagError("--timeout does not go with --detach", "leave one of them out")
    name = options.name or f"run-{secrets.token_hex(6)}"
    timeout = None if options.timeout is None else parse_duration(options.timeout)
    call = launch_call(name, options)
    address = address_given(options)
    with Connection(address) as connection:
        _launch(connection, name, call)
        if options.detach:
            click.echo(name)
            return 0
        try:
            return _Running(address, connection, name, timeout, options).run()
        except AgentError as error:
            raise AgentError(f"{error.message}; {name!r} may go on", f"`mesocosm kill {name}` ends it") from None


def _launch(connection: Connection, name: str, call: Json) -> None:
    """Raises AgentError."""
    try:
        is_new = connection.launch(call)
    except AgentError as error:
        raise error.without(f"{name}: ") from None
    if not is_new:
        raise AgentError(f"{connection.address} has a container {name!r} already", "choose another --name")


def launch_call(name: str, options: Options) -> Json:
    """The LAUNCH_CONTAINER that the options are. Raises FlagError for what makes no sense."""
    mem, disk = (None if size is None else parse_size(size) for size in (options.mem, options.disk))
    check_limits(options.cpus, mem, options.pids, disk)
    amounts = {
        "cpus": options.cpus,
        "mem": None if mem is None else mem / _MB,
        "disk": None if disk is None else disk / _MB,
    }
    asked = {key: {"value": value} for key, value in amounts.items() if value is not None}
    return {
        "container_id": identity(name),
        "command": command_info(options.command, options.user, options.env, terminal=options.tty),
        "resources": [{"name": key, "type": "SCALAR", "scalar": value} for key, value in asked.items()],
        "limits": {key: value for key, value in asked.items() if key != "disk"},
        "container": {"type": "MESOS", **_container_info(options)},
        **({"interactive": True} if options.interactive and not options.tty else {}),
    }


def _container_info(options: Options) -> Json:
    networks = choose_networks(options.network, options.publish, options.hostname)
    if networks.loopback_only:
        raise FlagError("--network none does not go with --agent", "name a network")
    info: Json = {
        "volumes": [
            {"container_path": each.container_path, "host_path": each.host_path, "mode": each.mode.value}
            for each in (parse_volume(text, here=False) for text in options.volume)
        ],
        "network_infos": [
            {
                "name": each.name,
                "port_mappings": [
                    {
                        "host_port": mapping.host_port,
                        "container_port": mapping.container_port,
                        **({} if mapping.protocol is None else {"protocol": mapping.protocol}),
                    }
                    for mapping in each.port_mappings
                ],
            }
            for each in networks.infos
        ],
        "rlimit_info": {
            "rlimits": [
                {"type": f"RLMT_{each.name}", **({} if each.soft is None else {"soft": each.soft, "hard": each.hard})}
                for each in map(parse_rlimit, options.rlimit)
            ]
        },
    }
    if networks.hostname is not None:
        info["hostname"] = networks.hostname
    if options.image is not None:
        pull = parse_pull(options.pull or Pull.MISSING.value)
        image = {"type": "DOCKER", "docker": {"name": options.image}, "cached": pull is Pull.MISSING}
        info["mesos"] = {"image": image}
    if options.tty:
        info["tty_info"] = terminal_info()
    return info


class _Running:
    """A container that was launched, with the caller's signals and output."""

    def __init__(
        self, address: Address, connection: Connection, name: str, timeout: float | None, options: Options
    ) -> None:
        self._options = options
        self._address = address
        self._connection = connection
        self._name = name
        self._about = {"container_id": identity(name)}
        self._timeout = timeout
        self._timed_out = False

    def run(self) -> int:
        """To its end and its removal, or until the detach keys are typed."""
        for number in forwarded():
            signal.signal(number, self._pass_on)
        timer = threading.Timer(self._timeout or 0.0, self._end)
        timer.daemon = True
        if self._timeout is not None:
            timer.start()
        if self._pass_on_output():
            tell_of_leaving(self._name)
            return 0
        termination = persistently(lambda: self._connection.call("WAIT_CONTAINER", self._about, patient=True))
        self._connection.call("REMOVE_CONTAINER", self._about)
        return self._judge(termination)

    def _pass_on_output(self) -> bool:
        """To the end; whether somebody has typed the detach keys."""
        tty = self._options.tty
        conversation = Conversation(
            self._address,
            self._name,
            interactive=self._options.interactive,
            terminal=tty,
            detach_keys=DetachKeys(DETACH_KEYS) if tty else None,
        )
        if not tty:
            conversation.listen(merged([self._output(1, "stdout"), self._output(2, "stderr")]))
            return False
        with Connection(self._address) as connection:
            conversation.listen(((1, data) for data in self._follow(connection, "stdout", 0)), connection.abort)
        return conversation.detached

    def _output(self, descriptor: int, file: str) -> Iterator[Piece]:
        """What is written to a file of the sandbox, from its beginning until the container has ended.

        Another agent may take the place of the one that was asked first.
        """
        offset, data = 0, b"-"
        with Connection(self._address) as connection:
            while data:
                following = self._follow(connection, file, offset)
                try:
                    while data := next(following, b""):
                        offset += len(data)
                        yield descriptor, data
                except LostError:
                    persistently(lambda: connection.call("GET_HEALTH"), was_lost=True)
                except AgentError as error:
                    if error.status != _BEYOND:
                        raise
                    offset = 0  # The file was begun anew meanwhile.

    def _follow(self, connection: Connection, file: str, offset: int) -> Iterator[bytes]:
        query = {"path": f"/containers/{self._name}/{file}", "offset": str(offset), "until": self._name}
        return connection.download("/files/follow", query)

    def _judge(self, termination: Json) -> int:
        if self._timed_out:
            complain(f"timeout: the command ran for {format_duration(self._timeout or 0)}")
            return TIMED_OUT
        if message := termination.get("message"):
            complain(message.partition("\n")[0])
        if termination.get("exit_status") is None:
            complain("nobody saw how the command ended")
        return exit_status(termination.get("exit_status"))

    def _pass_on(self, number: int, _: object) -> None:
        threading.Thread(target=self._kill, args=(number,), daemon=True).start()

    def _end(self) -> None:
        self._timed_out = True
        self._kill(signal.SIGKILL)

    def _kill(self, number: int) -> None:
        # It may have ended, which whoever waits for it knows.
        with contextlib.suppress(AgentError), Connection(self._address) as connection:
            connection.call("KILL_CONTAINER", {**self._about, "signal": number})


def merged(sources: list[Iterator[Piece]]) -> Iterator[Piece]:
    """What comes from several sources, each in a thread of its own, as it comes. Raises what one of them raises."""
    pieces: queue.Queue[Piece | Exception | None] = queue.Queue(_WAITING)

    def read(source: Iterator[Piece]) -> None:
        try:
            for piece in source:
                pieces.put(piece)
        except Exception as error:  # noqa: BLE001 - it goes to whoever reads what is merged.
            pieces.put(error)
        else:
            pieces.put(None)

    for source in sources:
        threading.Thread(target=read, args=(source,), daemon=True).start()
    left = len(sources)
    while left:
        found = pieces.get()
        if isinstance(found, Exception):
            raise found
        if found is None:
            left -= 1
        else:
            yield found
