"""The page of the agent, as a browser shows it: what people do there, and what containers cannot do to them."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.agent_process import AgentProcess, identity
from tests.browser import PATIENCE, chromium, looking

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Route

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def row(page: Page, name: str) -> Locator:
    return page.locator(f'[role=treeitem][data-id="{name}"]')


def see(locator: Locator, text: str | re.Pattern[str] | None = None) -> None:
    """Waits until it is there, with a text if there is one to wait for."""
    from playwright.sync_api import expect

    if text is None:
        expect(locator).to_be_visible(timeout=PATIENCE)
    else:
        expect(locator).to_contain_text(text, timeout=PATIENCE)


def await_points(page: Page, title: str, count: int) -> None:
    """Waits until the line of a chart has so many points."""
    from playwright.sync_api import expect

    chart = page.locator(".chart").filter(has=page.get_by_text(title, exact=True))
    line = chart.locator(".chart-line-0")
    expect(line).to_have_attribute("d", re.compile("L.*" * (count - 1)), timeout=PATIENCE)


def await_place(page: Page, place: str) -> None:
    from playwright.sync_api import expect

    expect(page).to_have_url(re.compile(f"/{re.escape(place)}$"), timeout=PATIENCE)


def fill_in_and_launch(page: Page, command: str, **more: str) -> None:
    for label, text in {"Command": command, **more}.items():
        page.get_by_label(label).fill(text)
    page.get_by_role("dialog").get_by_role("button", name="Launch").click()


def test_from_a_launch_to_the_removal(agent: AgentProcess, browser: Browser) -> None:
    agent.start()
    with looking(browser, agent) as page:
        see(page.get_by_role("heading", name="No containers yet"))
        page.get_by_role("main").get_by_role("button", name="Launch a container").click()
        command = "echo first; while [ ! -e go ]; do sleep 0.1; done; echo second; sleep 1000"
        fill_in_and_launch(page, command, Name="web", CPUs="0.5", **{"Memory, MB": "64"})
        see(page.get_by_role("heading", name="web"))
        see(page.locator(".chip"), "running")
        see(page.locator(".chart", has_text="Memory"), "of 64 MB")
        see(page.locator(".chart", has_text="CPU"), "of 0.5")
        await_points(page, "CPU", 2)
        page.get_by_role("tab", name="Log").click()
        see(page.get_by_role("log"), "first\n")
        (agent.sandbox("web") / "go").touch()
        see(page.get_by_role("log"), "first\nsecond\n")
        page.get_by_role("tab", name="Files").click()
        page.get_by_role("button", name="stdout", exact=True).click()
        see(page.get_by_label("Content"), "first\nsecond\n")
        page.get_by_role("button", name="Launch inside…").click()
        fill_in_and_launch(page, "trap '' TERM; sleep 1000")
        see(page.get_by_role("heading", name="side"))
        assert agent.containers().keys() == {"web", "side"}
        page.get_by_role("button", name="Kill…").click()
        assert page.evaluate("document.activeElement.textContent") == "Cancel", "nothing happens by accident"
        page.get_by_label("SIGKILL").check()
        page.get_by_role("dialog").get_by_role("button", name="Kill").click()
        see(page.locator(".note"), "Ended with signal 9")
        page.get_by_role("button", name="Remove…").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        await_place(page, "#/")
        see(row(page, "web"))
        assert row(page, "web.side").count() == 0
        assert agent.call("WAIT_CONTAINER", container_id=identity("side", "web")).status == 404


def test_what_containers_say_is_text(agent: AgentProcess, browser: Browser) -> None:
    """Their names for files, what they write, their commands, and why the agent says that they have ended."""
    agent.start()
    quoted = EVIL.replace("'", "")
    names = f"mkdir '{quoted.replace('/', '')}'; echo x > '{quoted.replace('/', '')}.txt'"
    script = f"echo '{quoted}'; printf '\\033]0;{quoted}\\007\\033[31mred\\033[0m\\n'; {names}; sleep 1000"
    assert agent.launch("evil", script).status == 200
    assert agent.launch("large", f"echo '{quoted}'; tail /dev/zero", **memory(32)).status == 200
    with looking(browser, agent) as page:
        row(page, "evil").click()
        see(page.locator(".fact-command"), quoted)
        page.get_by_role("tab", name="Log").click()
        see(page.get_by_role("log"), f"{quoted}\nred\n")
        page.get_by_role("tab", name="Files").click()
        see(page.get_by_role("button", name=quoted.replace("/", ""), exact=True))
        page.get_by_role("button", name=f"{quoted.replace('/', '')}.txt", exact=True).click()
        see(page.get_by_label("Content"), "x\n")
        row(page, "large").click()
        see(page.locator(".note"), "Memory limit exceeded")
        page.goto(f"{page.url.partition('#')[0]}#/{EVIL.replace('/', '%2F')}")
        see(page.get_by_text("There is no such container"))
        assert page.locator("main img, main script, nav img, nav script").count() == 0


def test_what_docker_cannot_do_is_not_offered(agent: AgentProcess, browser: Browser) -> None:
    agent.start()
    agent.launch("web", "sleep 1000")

    def made_by_docker(route: Route) -> None:
        found = route.fetch().json()
        for container in found["containers"]:
            container["type"] = "DOCKER"
            container["statistics"] = {"timestamp": container["statistics"]["timestamp"]}
        route.fulfill(json=found)

    with looking(browser, agent) as page:
        row(page, "web").click()
        see(page.get_by_role("button", name="Launch inside…"))
        see(page.locator(".chart", has_text="Disk space"), "Not measured, without disk/du or cgroups/blkio")
        page.route("**/overview", made_by_docker)
        page.reload()
        see(page.get_by_role("button", name="Kill…"))
        assert page.get_by_role("tab").all_inner_texts() == ["Overview", "Log", "Files"]
        assert page.get_by_role("button", name="Launch inside…").count() == 0
        see(page.get_by_text("Not measured of containers of Docker").nth(3))
        page.get_by_role("tab", name="Overview").press("ArrowLeft")
        await_place(page, "web/files")
        page.goto(page.url.replace("files", "terminal"))
        see(page.get_by_text("opens terminals in it by docker exec"))
        assert page.get_by_role("button", name="Open").count() == 0


def memory(megabytes: int) -> dict[str, object]:
    return {"resources": [{"name": "mem", "type": "SCALAR", "scalar": {"value": megabytes}}]}


def test_a_small_screen_in_the_dark(agent: AgentProcess, browser: Browser) -> None:
    agent.start()
    assert (
        agent.launch("a-container-with-a-rather-long-name-" + 40 * "x", "echo " + 300 * "y" + "; sleep 1000").status
        == 200
    )
    assert agent.launch("done", "exit 3").status == 200
    agent.wait_for("done")
    with looking(browser, agent, viewport={"width": 360, "height": 740}, color_scheme="dark") as page:
        see(row(page, "done"), "exit status 3")
        fits(page)
        page.get_by_role("treeitem").first.click()
        for tab in ("Overview", "Log", "Files", "Terminal"):
            page.get_by_role("tab", name=tab).click()
            see(page.get_by_role("tabpanel"))
            fits(page)
        page.get_by_role("button", name="Kill…").click()
        fits(page)
        page.keyboard.press("Escape")
        page.get_by_role("link", name="All containers").click()
        see(row(page, "done"))
        assert lightness(page) == "dark"
        page.get_by_role("button", name="Colours: as the system").click()
        assert lightness(page) == "light"
        page.get_by_role("button", name="Colours: light").click()
        assert lightness(page) == "dark"
        page.reload()
        see(page.get_by_role("button", name="Colours: dark"))
        assert lightness(page) == "dark"


def fits(page: Page) -> None:
    """Nothing is beside the screen, and what can be pressed has a name, and room for a finger."""
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    outside = """[...document.querySelectorAll("button, a, input")].filter((each) => {
      const { left, right, width } = each.getBoundingClientRect();
      return width > 0 && !each.classList.contains("skip") && (left < 0 || right > innerWidth + 1)
    }).map((each) => each.outerHTML)"""
    assert page.evaluate(outside) == []


def lightness(page: Page) -> str:
    red = int(re.findall(r"\d+", page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))[0])
    return "light" if red > 128 else "dark"


def test_the_keyboard(agent: AgentProcess, browser: Browser) -> None:
    agent.start()
    for name, parent in (("a", None), ("b", None), ("kid", "a")):
        assert agent.launch(name, "sleep 1000", nested_in=parent).status == 200
    with looking(browser, agent) as page:
        see(row(page, "a.kid"))
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.type") == "search"
        page.keyboard.type("kid")
        see(row(page, "a.kid"))
        assert page.get_by_role("treeitem").count() == 2, "what is around it, too"
        page.keyboard.press("Control+a")
        page.keyboard.press("Delete")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert focused(page) == "a"
        page.keyboard.press("ArrowLeft")
        assert row(page, "a").get_attribute("aria-expanded") == "false"
        page.keyboard.press("ArrowDown")
        assert focused(page) == "b"
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert focused(page) == "a.kid"
        page.keyboard.press("Enter")
        see(page.get_by_role("heading", name="kid"))
        page.get_by_role("tab", name="Overview").focus()
        page.keyboard.press("ArrowRight")
        see(page.get_by_role("log"))
        assert page.evaluate("document.activeElement.textContent") == "Log"
        row(page, "b").click()
        await_points(page, "CPU", 2)
        page.get_by_role("img", name=re.compile("^CPU: ")).focus()
        page.keyboard.press("ArrowLeft")
        see(page.locator(".chart-readout").first, re.compile(r"cores?, \d+ s ago"))


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.dataset.id"))


def test_who_has_to_sign_in(agent: AgentProcess, browser: Browser, run_directory: Path) -> None:
    credentials = run_directory / "credentials"
    credentials.write_text("ops open-sesame\nweb hunter2\n")
    credentials.chmod(0o600)
    only_ops = {
        "view_standalone_containers": "users",
        "launch_standalone_containers": "users",
        "get_endpoints": "paths",
    }
    lists = {
        name: [
            {"principals": {"values": ["ops"]}, objects: {"type": "ANY"}},
            {"principals": {"type": "ANY"}, objects: {"type": "NONE"}},
        ]
        for name, objects in only_ops.items()
    }
    guard = (f"--http_credentials={credentials}", "--authenticate_http_readonly", "--authenticate_http_readwrite")
    agent.start(*guard, f"--acls={json.dumps(lists)}")
    with looking(browser, agent) as page:
        for name, secret, outcome in (
            ("ops", "guessed", page.get_by_text("The agent knows no such name with this secret")),
            ("web", "hunter2", page.get_by_text("web may not see the containers here")),
        ):
            sign_in(page, name, secret)
            see(outcome)
        page.get_by_role("button", name="Sign out").click()
        sign_in(page, "ops", "open-sesame")
        page.get_by_role("main").get_by_role("button", name="Launch a container").click()
        fill_in_and_launch(page, "echo seen; sleep 1000")
        page.get_by_role("tab", name="Log").click()
        see(page.get_by_role("log"), "seen\n")
        assert page.context.cookies() == []
        assert page.evaluate("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0
        page.reload()
        see(page.get_by_role("heading", name="Sign in to the agent"))


def sign_in(page: Page, name: str, secret: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Secret").fill(secret)
    page.get_by_role("button", name="Sign in").click()


def test_an_agent_that_is_gone_for_a_while(agent: AgentProcess, browser: Browser) -> None:
    agent.start()
    assert agent.launch("web", "sleep 1000").status == 200
    with looking(browser, agent) as page:
        see(row(page, "web"))
        agent.stop(signal.SIGKILL)
        see(page.get_by_text("The agent does not answer"))
        see(row(page, "web"))
        agent.keeps_port = True
        agent.start()
        page.wait_for_selector("#notice", state="hidden")
        see(row(page, "web"), "sleep 1000")


def test_the_files_of_the_page(agent: AgentProcess) -> None:
    agent.start()
    for path in ("/", "/web/main.js", "/web/style.css", "/web/icon.svg"):
        answer = agent.get(path)
        assert answer.status == 200
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert (answer.headers["X-Frame-Options"], answer.headers["X-Content-Type-Options"]) == ("DENY", "nosniff")
        assert agent.get(path, **{"If-None-Match": answer.headers["ETag"]}).status == 304
        assert (agent.request("HEAD", path).body, agent.request("POST", path, b"").status) == (b"", 405)
    for path in (
        "/web",
        "/web/",
        "/web/..",
        "/web/../page.py",
        "/web/%2e%2e/page.py",
        "/web//etc/passwd",
        "/web/__init__.py",
    ):
        assert agent.get(path).status == 404, path


def test_pages_of_another_origin(agent: AgentProcess, browser: Browser) -> None:
    """The same browser shows them on the same machine, but they neither use nor frame what is the agent's."""
    agent.start()
    own, other = f"127.0.0.1:{agent.port}", f"http://localhost:{agent.port}/other"
    page = browser.new_page()
    page.route(other, lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    page.goto(other)
    connect = """(own) => new Promise((resolve) => {
      const socket = new WebSocket(`ws://${own}/terminal/connect`, ["mesocosm.terminal", "ticket"]);
      socket.onopen = () => resolve("open");
      socket.onclose = () => resolve("refused");
    })"""
    assert page.evaluate(connect, own) == "refused"
    call = """(own) => fetch(`http://${own}/api/v1`, {
      method: "POST", body: '{"type": "GET_HEALTH"}', headers: {"Content-Type": "application/json"},
    }).then((answer) => answer.status, () => "refused")"""
    assert page.evaluate(call, own) == "refused"
    toggle = """(own) => fetch(`http://${own}/logging/toggle?level=1&duration=1mins`, {method: "POST", mode: "no-cors"})
      .then(() => null, () => null)"""
    page.evaluate(toggle, own)
    assert agent.get("/logging/toggle").text == "0\n"
    frame = """(own) => new Promise((resolve) => {
      const frame = document.createElement("iframe");
      frame.onload = () => resolve(null);
      frame.src = `http://${own}/`;
      document.body.append(frame);
    })"""
    page.evaluate(frame, own)
    assert page.frames[1].locator(".bar").count() == 0, "it is not shown"
    page.goto(f"http://{own}/")
    assert page.evaluate(call, own) == 200, "pages of its own do"
    page.evaluate(toggle, own)
    assert agent.get("/logging/toggle").text == "1\n"
    page.close()
