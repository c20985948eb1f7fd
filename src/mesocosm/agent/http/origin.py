"""Which pages may have a browser do something here: those of the agent itself, and no others.

A browser tells by `Origin` (RFC 6454) whose page sends a request. What is no browser does not send it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from http import HTTPStatus

from mesocosm.agent.http.reply import RequestError

_LOCAL = "localhost"


def check_origin(headers: Mapping[str, str], names: Collection[str], *, is_known: bool) -> None:
    """Refuses what a page of another origin sends. Raises RequestError, 403.

    A name that its owner has made lead to this address would be such an origin, too (DNS rebinding). So who is not
    `is_known` by a password has to call the agent by an address, by `localhost`, or by one of its `names`.
    """
    origin = headers.get("Origin")
    if origin is None:
        return
    asked = headers.get("Host", "")
    if origin.partition("://")[2].lower() != asked.lower():
        raise _refused(f"a page of {origin} may not do this at {asked}", "A proxy has to pass on the Host header.")
    if not (is_known or _is_own(asked, names)):
        raise _refused(
            f"{asked} is no name of this agent",
            "Call it by its address, or start it with --hostname, or with passwords.",
        )


def _is_own(asked: str, names: Collection[str]) -> bool:
    in_brackets, _, _ = asked.removeprefix("[").partition("]")
    name = (in_brackets if asked.startswith("[") else asked.partition(":")[0]).lower().rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == _LOCAL or name.endswith(f".{_LOCAL}") or name in {each.lower().rstrip(".") for each in names}
    return True


def _refused(text: str, hint: str) -> RequestError:
    return RequestError(HTTPStatus.FORBIDDEN, f"{text}. {hint}")
