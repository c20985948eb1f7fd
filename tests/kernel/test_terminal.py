"""The terminal of the page: by a WebSocket, for whom the lists allow a session, and for pages of the agent only."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

import aiohttp
import pytest

from mesocosm.agent.http import terminal
from tests.agent_process import AgentProcess, Answer, identity
from tests.browser import PATIENCE, chromium, looking
from tests.command_line import TIMEOUT

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def ask(agent: AgentProcess, name: str = "t", *, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
    """Asks for a terminal in the container "web"."""
    session = {
        "container_id": identity(name, "web"),
        "command": {"value": "exec sh", "shell": True},
        "container": {"type": "MESOS", "tty_info": {"window_size": {"rows": 30, "columns": 90}}},
        **more,
    }
    body = {"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": session}
    return agent.request(
        "POST", "/terminal", json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
    )


def ask_for_its_own(agent: AgentProcess, name: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Asks for the terminal that the container has."""
    body = {"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": identity(name)}}
    content = {"Content-Type": "application/json"}
    return agent.request("POST", "/terminal", json.dumps(body).encode(), {**content, **(headers or {})})


def ticket(agent: AgentProcess, name: str = "t", **more: Any) -> str:
    answer = ask(agent, name, **more)
    assert answer.status == 200, answer.text
    return str(answer.json["ticket"])


@asynccontextmanager
async def connected(
    agent: AgentProcess, *protocols: str, origin: str | None = None
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    own = f"{agent.host}:{agent.port}"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"http://{own}/terminal/connect", protocols=protocols, origin=origin or f"http://{own}"
        ) as socket,
    ):
        yield socket


async def refused(agent: AgentProcess, *protocols: str, origin: str | None = None) -> int:
    """The status of a connection that there is not."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        async with connected(agent, *protocols, origin=origin):
            pass
    return raised.value.status


async def until(socket: aiohttp.ClientWebSocketResponse, pattern: str) -> str:
    """What is shown, until it matches."""
    shown = b""
    while not re.search(pattern, shown.decode(errors="replace")):
        message = await socket.receive(TIMEOUT)
        assert message.type is aiohttp.WSMsgType.BINARY, (message, shown)
        shown += message.data
    return shown.decode(errors="replace")


async def said(socket: aiohttp.ClientWebSocketResponse) -> Any:
    """The next text, past all that is shown before."""
    while (message := await socket.receive(TIMEOUT)).type is aiohttp.WSMsgType.BINARY:
        pass
    assert message.type is aiohttp.WSMsgType.TEXT, message
    return json.loads(message.data)


@pytest.fixture
def web(agent: AgentProcess) -> AgentProcess:
    """An agent with a container."""
    agent.start()
    assert agent.launch("web", "sleep 1000").status == 200
    return agent


async def gone(agent: AgentProcess, name: str = "t") -> None:
    """Waits until there is no such container any more, nor a record of one."""
    await until_it_holds(lambda: agent.call("WAIT_CONTAINER", container_id=identity(name, "web")).status == 404)


async def until_it_holds(condition: Callable[[], bool]) -> None:
    """Waits for what nobody is told of, such as a removal."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - it is no event of this process.
            await asyncio.sleep(0.05)


async def test_a_command_is_typed_and_ends(web: AgentProcess) -> None:
    async with connected(web, terminal.PROTOCOL, ticket(web)) as socket:
        assert socket.protocol == terminal.PROTOCOL, "the ticket is not said again"
        await socket.send_bytes(b"stty size; echo $((6 * 7)); tty\n")
        assert "30 90\r\n42\r\n/dev/pts/" in await until(socket, "/dev/pts/")
        await socket.send_str('{"rows": 40, "columns": 120}')
        await socket.send_bytes(b"stty size\n")
        await until(socket, "40 120")
        await socket.send_bytes(b"echo asleep$((1)); sleep 1000\n")
        await until(socket, "asleep1")
        await socket.send_bytes(b"\x03")
        await until(socket, r"\^C")
        await socket.send_bytes(b"exit 4\n")
        assert await said(socket) == {"exit_status": 4}
        assert (await socket.receive(TIMEOUT)).type is aiohttp.WSMsgType.CLOSE
    await gone(web)
    assert web.containers().keys() == {"web"}


async def test_it_ends_with_the_connection(web: AgentProcess) -> None:
    for name, how in (("closed", "close"), ("cut", "abort")):
        async with connected(web, terminal.PROTOCOL, ticket(web, name)) as socket:
            await socket.send_bytes(b"trap '' HUP TERM; echo ready$((1))\n")
            await until(socket, "ready1")
            if how == "abort":
                socket.get_extra_info("socket").shutdown(SHUT_RDWR)
            else:
                await socket.close()
        await gone(web, name)


async def test_a_client_that_does_not_read_makes_the_command_wait(web: AgentProcess) -> None:
    async with connected(web, terminal.PROTOCOL, ticket(web, command={"value": "yes", "shell": True})) as socket:
        await until(socket, "y")
    await gone(web)


async def test_an_agent_that_is_killed_leaves_no_terminal(web: AgentProcess) -> None:
    async with connected(web, terminal.PROTOCOL, ticket(web)) as socket:
        await socket.send_bytes(b"echo ready$((1))\n")
        await until(socket, "ready1")
        assert web.stop(signal.SIGKILL) == -signal.SIGKILL
    web.start()
    await until_it_holds(lambda: "t" not in web.containers())


async def test_what_is_refused(web: AgentProcess) -> None:
    own, evil = f"http://{web.host}:{web.port}", "http://evil.example.org"
    assert await refused(web) == 403
    assert await refused(web, terminal.PROTOCOL) == 403
    assert await refused(web, terminal.PROTOCOL, "guessed") == 403
    assert await refused(web, ticket(web)) == 403
    used = ticket(web)
    async with connected(web, terminal.PROTOCOL, used):
        assert await refused(web, terminal.PROTOCOL, used) == 403
    await gone(web)
    for origin in (evil, "null", f"{own}.example.org", own.replace("http://", "http://x@")):
        assert await refused(web, terminal.PROTOCOL, ticket(web), origin=origin) == 403, origin
        assert ask(web, headers={"Origin": origin}).status == 403, origin
    rebound = {"Origin": "http://evil.example.org:80", "Host": "evil.example.org:80"}
    assert ask(web, headers=rebound).status == 403
    assert ask(web, headers={"Content-Type": "text/plain"}).status == 415
    assert ask(web, container={"type": "MESOS"}).status == 400
    assert web.get("/terminal/connect").status == 403
    for wrong in (b"", b"[]", b'{"type": "GET_HEALTH"}'):
        assert web.request("POST", "/terminal", wrong, {"Content-Type": "application/json"}).status == 400
    assert web.containers().keys() == {"web"}


async def test_what_goes_wrong_is_said(web: AgentProcess) -> None:
    async with connected(web, terminal.PROTOCOL, ticket(web, command={"value": "id", "user": "nosuch"})) as socket:
        assert "no user 'nosuch'" in (await said(socket))["error"]
    for wrong in ("no json", '{"rows": 0, "columns": 80}', '{"rows": 1000000, "columns": 80}'):
        async with connected(web, terminal.PROTOCOL, ticket(web)) as socket:
            await socket.send_str(wrong)
            assert "error" in await said(socket), wrong
        await gone(web)


async def test_the_terminal_that_a_container_has(web: AgentProcess) -> None:
    assert ask_for_its_own(web, "web").text == "web has no terminal of its own"
    assert ask_for_its_own(web, "nope").status == 404
    size = {"container": {"type": "MESOS", "tty_info": {"window_size": {"rows": 30, "columns": 90}}}}
    assert web.launch("own", "while read line; do echo got $line; done; exit 3", **size).status == 200
    for line in (b"one", b"two"):  # It goes on when its client leaves.
        async with connected(web, terminal.PROTOCOL, ask_for_its_own(web, "own").json["ticket"]) as socket:
            await socket.send_bytes(line + b"\n")
            await until(socket, f"got {line.decode()}")
            if line == b"two":
                second = ask_for_its_own(web, "own").json["ticket"]
                async with connected(web, terminal.PROTOCOL, second) as busy:
                    assert await said(busy) == {"error": "Multiple input connections are not allowed"}
                await socket.send_bytes(b"\x04")
                assert await said(socket) == {"exit_status": 3}
    assert ask_for_its_own(web, "own").status == 404


async def test_who_may_have_one(agent: AgentProcess, run_directory: Path) -> None:
    credentials = run_directory / "credentials"
    credentials.write_text("ops secret\nweb secret\n")
    credentials.chmod(0o600)
    lists = {
        "launch_nested_container_sessions_under_parent_with_user": [
            {"principals": {"values": ["ops"]}, "users": {"type": "ANY"}},
            {"principals": {"type": "ANY"}, "users": {"type": "NONE"}},
        ],
        "attach_containers_input": [
            {"principals": {"values": ["ops"]}, "users": {"type": "ANY"}},
            {"principals": {"type": "ANY"}, "users": {"type": "NONE"}},
        ],
    }
    agent.start(f"--http_credentials={credentials}", "--authenticate_http_readwrite", f"--acls={json.dumps(lists)}")
    launch = {"container_id": identity("web"), "command": {"value": "sleep 1000"}}
    body = json.dumps({"type": "LAUNCH_CONTAINER", "launch_container": launch}).encode()
    headers = {"Content-Type": "application/json", **as_("ops")}
    assert agent.request("POST", "/api/v1", body, headers).status == 200
    assert ask(agent).status == 401
    assert ask(agent, headers=as_("web")).status == 403
    assert ask_for_its_own(agent, "web").status == 401
    assert ask_for_its_own(agent, "web", as_("web")).status == 403
    assert ask_for_its_own(agent, "web", as_("ops")).text == "web has no terminal of its own"
    async with connected(agent, terminal.PROTOCOL, ticket(agent, headers=as_("ops"))) as socket:
        await socket.send_bytes(b"echo mine$((1))\n")
        await until(socket, "mine1")


def as_(principal: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{principal}:secret'.encode()).decode()}"}


def test_in_the_page(web: AgentProcess) -> None:
    if not Path(terminal.__file__).parents[1].joinpath("web/vendor/xterm.mjs").exists():
        pytest.skip("needs the terminal's library, which npm gets when Mesocosm is installed")
    with chromium() as browser, looking(browser, web) as page:
        from playwright.sync_api import expect

        page.goto(f"{page.url}#/web/terminal")
        page.get_by_label("Command").fill("exec sh")
        assert page.get_by_role("button", name="Attach to its own").count() == 0
        page.get_by_role("button", name="Open").click()
        screen = page.locator(".xterm-rows")
        expect(screen).to_contain_text("#", timeout=PATIENCE)
        page.keyboard.type("echo '<img src=x onerror=alert(1)>' $((6 * 7)); stty size\n")
        expect(screen).to_contain_text("<img src=x onerror=alert(1)> 42", timeout=PATIENCE)
        page.set_viewport_size({"width": 500, "height": 700})
        page.keyboard.type("echo is $(stty size)\n")
        expect(screen).to_contain_text(re.compile(r"is \d\d [3-6]\d\D"), timeout=PATIENCE)
        page.set_viewport_size({"width": 1280, "height": 700})
        page.keyboard.press("F6")
        assert page.evaluate("document.activeElement.textContent") == "Close"
        page.locator(".xterm-helper-textarea").focus()
        page.keyboard.type("exit 5\n")
        expect(page.get_by_role("status").last).to_contain_text("exit status 5", timeout=PATIENCE)
        assert page.locator("main img").count() == 0
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("treeitem", name=re.compile("terminal-"))).to_be_visible(timeout=PATIENCE)
        tty = {"container": {"type": "MESOS", "tty_info": {"window_size": {"rows": 30, "columns": 90}}}}
        assert web.launch("own", "read line; stty size; exec cat", **tty).status == 200
        page.goto(f"{page.url.partition('#')[0]}#/own/terminal")
        page.get_by_role("button", name="Attach to its own").click()
        expect(page.get_by_text("It is that of own itself")).to_be_visible(timeout=PATIENCE)
        page.keyboard.type("\n")
        expect(screen).to_contain_text(re.compile(r"\d\d \d+"), timeout=PATIENCE)
        assert "30 90" not in screen.inner_text()
        page.get_by_role("link", name="Mesocosm").click()
        assert "own" in web.containers()
        expect(page.get_by_role("treeitem", name=re.compile("terminal-"))).to_be_hidden(timeout=PATIENCE)
