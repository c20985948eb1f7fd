"""The options of `mesocosm run`: one table, for click and for a parser that takes no time to load.

The quick one knows only command lines that are right. Any other is click's, whose help and messages are better.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXT, MANY, NUMBER, COUNT, PATH, FLAG = "text", "many", "number", "count", "path", "flag"

OPTIONS: tuple[tuple[tuple[str, ...], str, str, str], ...] = (
    (("--isolation",), TEXT, "LIST", "Isolators, separated by commas. Default: the strongest that work."),
    (("--name",), TEXT, "NAME", "Name of the container. Default: one that nobody has."),
    (("-e", "--env"), MANY, "K[=V]", "A variable, or one that is passed on."),
    (("-w", "--workdir"), TEXT, "DIR", "Directory to run in. Default: the sandbox."),
    (("-u", "--user"), TEXT, "USER", "Name or UID[:GID] to run as."),
    (("--cpus",), NUMBER, "N", "CPUs that the container may use, such as 0.5."),
    (("-m", "--mem"), TEXT, "SIZE", "Memory that it may use, such as 64MB."),
    (("--pids",), COUNT, "N", "Processes and threads that it may have. Default: 4096."),
    (("--disk",), TEXT, "SIZE", "Disk that its sandbox may take, such as 1GB."),
    (("-v", "--volume"), MANY, "SRC:DST[:ro|rw]", "A file or directory of the host."),
    (("--tmpfs",), MANY, "DST[:SIZE]", "An empty directory in memory."),
    (("--image",), TEXT, "REF", "Root file system: an image, with its command if there is no COMMAND."),
    (("--entrypoint",), TEXT, "PROGRAM", "What to execute instead of the image's own."),
    (("--pull",), TEXT, "missing|always", "When to ask where the image comes from. Default: missing."),
    (("--store",), PATH, "DIR", "Directory of the images. Default: /var/lib/mesocosm/images."),
    (("--rootfs",), PATH, "DIR", "Root file system. Default: that of the host."),
    (("--read-only",), FLAG, "", "Make the root file system read-only."),
    (("--cap-add",), MANY, "NAME|ALL", "A capability that it has, whoever its user is."),
    (("--cap-drop",), MANY, "NAME|ALL", "A capability that nobody in it has."),
    (("--seccomp",), TEXT, "FILE|default|unconfined", "Profile of the system calls that it may make."),
    (("--no-new-privileges",), FLAG, "", "Let no program give it privileges, such as su."),
    (("--allow-new-privileges",), FLAG, "", "Let them, where that is not the default."),
    (("--privileged",), FLAG, "", "Begin with no restrictions, instead of the default ones."),
    (("--network",), MANY, "NAME|none|host", "A network that it joins, or none. Default: that of the host."),
    (("-p", "--publish"), MANY, "HOST:CONTAINER[/udp]", "A port of the host that leads to one of its own."),
    (("--hostname",), TEXT, "NAME", "Its host name. Default: that of the host, or --name in a network."),
    (("--network-config-dir",), PATH, "DIR", "Configurations of networks. Default: /etc/cni/net.d."),
    (("--rlimit",), MANY, "NAME=SOFT[:HARD]", "A limit of each process, such as nofile=64."),
    (("-i", "--interactive"), FLAG, "", "Pass the standard input on. Default: it is empty."),
    (("-t", "--tty"), FLAG, "", "Give the command a terminal."),
    (("--timeout",), TEXT, "DURATION", "Time that it may take, such as 5, 90secs or 10mins."),
    (("--task",), PATH, "FILE", "Run a TaskInfo or a TaskGroupInfo of Mesos, in JSON, instead of a COMMAND."),
    (("--agent",), TEXT, "URL|SOCKET", "The agent that runs it. Default: none; one of its own for a --task."),
    (("-d", "--detach"), FLAG, "", "With --agent: print its id, and leave it alone."),
    (("--credential",), PATH, "FILE", "For that agent: a principal and its secret, as a line or as JSON."),
    (("--ca-file",), PATH, "FILE", "Whose certificates that agent may have."),
    (("--cert",), PATH, "FILE", "A certificate to show to that agent."),
    (("--key",), PATH, "FILE", "Its key, if that is not in the same file."),
    (("--work-dir",), PATH, "DIR", "Keep the sandbox, below this directory."),
    (("--runtime-dir",), PATH, "DIR", "Keep the state below this directory."),
    (("--verbose",), FLAG, "", "Say what isolates the container, and what is missing."),
)
"""The names of each option, its kind, how its value is called, and its help."""

OF_AGENT = ("agent", "detach", "credential", "ca_file", "cert", "key")
"""Options that make sense with an --agent only."""
_KINDS = {name: (names[-1][2:].replace("-", "_"), kind) for names, kind, _, _ in OPTIONS for name in names}
_CONVERSIONS: dict[str, Any] = {TEXT: str, MANY: str, NUMBER: float, COUNT: int, PATH: Path}


def parse_quickly(arguments: list[str]) -> dict[str, Any] | None:
    """The values of a command line, by the names of the fields of `Options`; None for one that is left to click."""
    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        argument = rest.pop(0)
        if argument == "--":
            break
        if argument == "-it":
            values |= {"interactive": True, "tty": True}
            continue
        name, equals, value = argument.partition("=")
        field, kind = _KINDS.get(name, ("", FLAG))
        if (
            not field
            or (equals and (kind == FLAG or not name.startswith("--")))
            or not (equals or kind == FLAG or rest)
        ):
            return None
        if kind == FLAG:
            values[field] = True
            continue
        try:
            converted = _CONVERSIONS[kind](value if equals else rest.pop(0))
        except ValueError:
            return None
        values[field] = (*values.get(field, ()), converted) if kind == MANY else converted
    is_usual = rest and values.keys().isdisjoint(("task", *OF_AGENT))
    return {**values, "command": tuple(rest)} if is_usual else None
