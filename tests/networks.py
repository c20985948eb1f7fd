"""CNI networks for tests: real plugins, whose side of the host is a network namespace of the test's own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mesocosm.linux import mount
from tests.command_line import TIMEOUT

PLUGINS = Path("/usr/lib/cni")
GATEWAY = "10.77.0.1"
SUBNET = "10.77.0.0/24"
_COMMANDS = ("ip", "iptables", "nsenter", "unshare")


class Networks:
    """A directory of configurations, one of plugins, and the network namespace that stands for the host's.

    Nothing of the machine is touched: every plugin enters that namespace first.
    """

    def __init__(self, directory: Path) -> None:
        self.configurations = directory / "net.d"
        self.plugins = directory / "plugins"
        self.leases = directory / "leases"
        self.log = directory / "plugins.log"
        self.namespace = directory / "host-net"
        for made in (self.configurations, self.plugins, self.leases):
            made.mkdir()
        self.namespace.touch()

    @property
    def flags(self) -> dict[str, Any]:
        """Flags of a containerizer that has these networks."""
        return {"network_cni_config_dir": self.configurations, "network_cni_plugins_dir": str(self.plugins)}

    @property
    def arguments(self) -> list[str]:
        """The same for the agent."""
        return [f"--{name}={value}" for name, value in self.flags.items()]

    def on_host(self, *command: str, check: bool = True) -> str:
        """What a command prints that is executed in the host's namespace."""
        argv = ["nsenter", f"--net={self.namespace}", *command]
        return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=TIMEOUT).stdout

    def describe(self, name: str, *plugins: dict[str, Any], file: str | None = None, **fields: Any) -> dict[str, Any]:
        """Writes a list of plugins."""
        content = {"cniVersion": "1.0.0", "name": name, "plugins": list(plugins), **fields}
        (self.configurations / (file or f"{name}.conflist")).write_text(json.dumps(content))
        return content

    def bridge(self, number: int = 77, **fields: Any) -> dict[str, Any]:
        """The configuration of a plugin that attaches to a bridge, with addresses 10.NUMBER.0.2 and up."""
        routes = [{"dst": "0.0.0.0/0"}] if number == 77 else []
        ranges = [[{"subnet": f"10.{number}.0.0/24"}]]
        ipam = {"type": "host-local", "dataDir": str(self.leases), "ranges": ranges, "routes": routes}
        return {"type": "bridge", "bridge": f"br{number}", "isGateway": True, "ipam": ipam, **fields}

    def script(self, name: str, text: str) -> None:
        """Makes a plugin of the test's own: a script for the shell, after one line that logs the command."""
        program = self.plugins / name
        program.write_text(f'#!/bin/sh\necho "$CNI_COMMAND {name} $CNI_IFNAME" >> {self.log}\n{text}\n')
        program.chmod(0o755)

    def calls(self) -> list[str]:
        """What the plugins of the test's own were told, but VERSION."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if not line.startswith("VERSION")]

    def state(self) -> dict[str, list[str]]:
        """What plugins may leave: interfaces but the bridges, rules of the packet filter, and leases of addresses."""
        links = [line.split(":")[1].strip() for line in self.on_host("ip", "-o", "link").splitlines()]
        rules = [line for line in self.on_host("iptables", "-t", "nat", "-S").splitlines() if "CNI-" in line]
        leases = [str(path) for path in self.leases.rglob("*") if path.name.count(".") == 3]
        return {
            "links": [link for link in links if link.startswith("veth")],
            # What portmap makes once, and keeps.
            "rules": [rule for rule in rules if not any(word in rule for word in ("HOSTPORT", "CNI-SETMARK"))],
            "leases": leases,
        }

    def is_clean(self) -> bool:
        return not any(self.state().values())


@contextmanager
def networks_in(directory: Path) -> Iterator[Networks]:
    """Networks whose host has nothing but a loopback interface; skips where they cannot be had."""
    if missing := [name for name in _COMMANDS if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed (Debian: iproute2, iptables, util-linux)")
    if not (PLUGINS / "bridge").exists():
        pytest.skip("there are no CNI plugins (Debian: containernetworking-plugins)")
    networks = Networks(directory)
    subprocess.run(["unshare", f"--net={networks.namespace}", "ip", "link", "set", "lo", "up"], check=True)
    try:
        for plugin in PLUGINS.iterdir():
            wrapper = networks.plugins / plugin.name
            wrapper.write_text(f'#!/bin/sh\nexec nsenter --net={networks.namespace} {plugin} "$@"\n')
            wrapper.chmod(0o755)
        yield networks
    finally:
        mount.unmount(str(networks.namespace), detach=True)
