"""What plugins answer: the result of ADD, in the format of any version, and errors."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mesocosm.external import one_line

_WORD = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Dns:
    """The content of a resolv.conf(5)."""

    nameservers: tuple[str, ...] = ()
    domain: str | None = None
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, content: object) -> Dns:
        """What CNI and `--default_container_dns` call `dns`. Raises ValueError."""
        if not isinstance(content, Mapping):
            raise ValueError("its 'dns' is no object")
        lists = {}
        for name in ("nameservers", "search", "options"):
            values = content.get(name) or []
            if not isinstance(values, list) or not all(map(_is_word, values)):
                raise ValueError(f"the {name} in its 'dns' are no list of words")
            lists[name] = tuple(values)
        domain = content.get("domain") or None
        if domain is not None and not _is_word(domain):
            raise ValueError("the domain in its 'dns' is no word")
        return cls(domain=domain, **lists)

    def joined(self, other: Dns) -> Dns:
        """Both, in this order; of two domains, the second."""
        return Dns(
            self.nameservers + other.nameservers,
            other.domain or self.domain,
            self.search + other.search,
            self.options + other.options,
        )

    def __str__(self) -> str:
        lines = [
            *([f"domain {self.domain}"] if self.domain else []),
            *([f"search {' '.join(self.search)}"] if self.search else []),
            *([f"options {' '.join(self.options)}"] if self.options else []),
            *(f"nameserver {server}" for server in self.nameservers),
        ]
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Result:
    """A result as it is handed on (`content`), and what it says: the container's addresses, with their prefixes."""

    content: Mapping[str, Any]
    interfaces: tuple[str, ...] = ()
    dns: Dns = field(default_factory=Dns)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those of the container alone."""
        return tuple(str(ipaddress.ip_interface(text).ip) for text in self.interfaces)

    @classmethod
    def parse(cls, text: bytes) -> Result:
        """Raises ValueError for what is no result."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError("it is no JSON") from error
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        return cls(content, _addresses(content), Dns.parse(content.get("dns") or {}))


def parse_error(text: bytes) -> str | None:
    """The one line that an error is; None for what is no error. Scripts write lines into its texts."""
    try:
        content = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or "msg" not in content:
        return None
    parts = [str(content[name]) for name in ("msg", "details") if content.get(name)]
    return one_line(": ".join(parts))


def _addresses(content: Mapping[str, Any]) -> tuple[str, ...]:
    """From version 0.3.0 on there is a list of them, and before that there could be one of each kind."""
    entries: Sequence[object] = content.get("ips") or []
    if not isinstance(entries, list):
        raise ValueError("its 'ips' are no list")
    texts = [entry.get("address") if isinstance(entry, dict) else None for entry in entries]
    older = (content[name] for name in ("ip4", "ip6") if content.get(name) is not None)
    texts += (entry.get("ip") if isinstance(entry, dict) else None for entry in older)
    return tuple(map(_interface, texts))


def _interface(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no address")
    return str(ipaddress.ip_interface(text))


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None
