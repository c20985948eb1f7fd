"""Which pages may have a browser do something at the agent."""

from __future__ import annotations

import pytest

from mesocosm.agent.http.origin import check_origin
from mesocosm.agent.http.reply import RequestError

NAMES = frozenset({"Agent-1.example.org"})


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:5051", "[::1]:5051", "10.1.2.3", "localhost:5051", "agent.localhost", "LOCALHOST:80"),
        *("agent-1.example.org:5051", "AGENT-1.example.org.", "agent-1.example.org"),
    ],
)
def test_its_own_pages(host: str) -> None:
    check_origin({"Host": host, "Origin": f"http://{host}"}, NAMES, is_known=False)
    check_origin({"Host": host, "Origin": f"https://{host}"}, NAMES, is_known=False)  # TLS ends at a proxy, perhaps.


def test_what_is_no_browser() -> None:
    check_origin({"Host": "any.example.org"}, NAMES, is_known=False)
    check_origin({}, NAMES, is_known=False)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.example.org", "http://127.0.0.1:5052", "http://127.0.0.1", "https://localhost:5051"),
        *("null", "", "http://127.0.0.1:5051.evil.example.org", "http://user@127.0.0.1:5051", "http://["),
    ],
)
def test_pages_of_others(origin: str, known: bool) -> None:
    with pytest.raises(RequestError) as raised:
        check_origin({"Host": "127.0.0.1:5051", "Origin": origin}, NAMES, is_known=known)
    assert raised.value.reply.status == 403


@pytest.mark.parametrize("host", ["evil.example.org:5051", "localhost.example.org", "127.0.0.1.example.org", "[x]", ""])
def test_names_that_their_owners_make_lead_here(host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    with pytest.raises(RequestError, match="is no name of this agent"):
        check_origin(headers, NAMES, is_known=False)
    check_origin(headers, NAMES, is_known=True)  # A password is not sent to a name that its user does not know.
