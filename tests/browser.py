"""Debian's Chromium, which looks at the agent's page for the tests: it asks nobody else, and an error in it is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.agent_process import AgentProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE = 60_000
"""Milliseconds that the page has to show something, on a machine that may be busy."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, which knows no host but this one. Its processes are those of the test that begins it."""
    playwright = pytest.importorskip("playwright.sync_api")
    if (executable := shutil.which("chromium")) is None:
        pytest.skip("needs chromium")
    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Which cannot be made by root.
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=executable, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def looking(browser: Browser, agent: AgentProcess, **options: Any) -> Iterator[Page]:
    """The page of an agent. At the end, it has asked nobody else for anything, and no script in it has failed."""
    options = {"viewport": {"width": 1280, "height": 800}, **options}
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    asked: list[str] = []
    failures: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url.replace("ws://", "http://")))
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("dialog", lambda dialog: (failures.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
    page.on("console", lambda message: failures.append(message.text) if "Content Security" in message.text else None)
    own = f"http://{agent.host}:{agent.port}/"
    try:
        page.goto(own)
        yield page
    finally:
        context.close()
    assert failures == []
    assert [url for url in asked if not url.startswith((own, f"blob:{own}"))] == []
