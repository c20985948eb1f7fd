"""Checks that are performed again and again, and what becomes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from mesocosm.executors.checks.probes import CheckError, Probe, UnaskedError
from mesocosm.executors.client import say
from mesocosm.executors.statuses import Json

_DELAY, _INTERVAL, _TIMEOUT = 15.0, 10.0, 20.0
_GRACE_PERIOD, _CONSECUTIVE_FAILURES = 10.0, 3
"""What mesos.proto has for what is not said."""
_KINDS = ("COMMAND", "HTTP", "TCP")
_TIMES = ("delay_seconds", "interval_seconds", "timeout_seconds", "grace_period_seconds")


@dataclass(frozen=True, slots=True)
class Health:
    """A change of a task's health; a task is to be killed for the last of too many failures."""

    healthy: bool
    kill: bool = False


def refusal(check: Json) -> str | None:
    """Why a `CheckInfo` or a `HealthCheck` is none (Mesos: common/validation.cpp)."""
    kind = check.get("type")
    if kind not in _KINDS or kind.lower() not in check:
        return f"it needs a type, one of {', '.join(_KINDS)}, and what that is to do"
    if negative := [name for name in _TIMES if check.get(name, 0) < 0]:
        return f"its {negative[0]} is negative"
    details = check[kind.lower()]
    if kind == "COMMAND":
        command = details.get("command", details)
        return None if command.get("value") else "its command has no value"
    if details.get("scheme", "http") not in ("http", "https"):
        return f"its scheme {details['scheme']!r} is neither http nor https"
    if not details.get("path", "/").startswith("/"):
        return f"its path {details['path']!r} does not begin with a slash"
    return None


def empty(check: Json) -> Json:
    """The `CheckStatusInfo` of a check that has no answer."""
    return {"type": check["type"], check["type"].lower(): {}}


async def watch(check: Json, probe: Probe, report: Callable[[Json], None]) -> None:
    """Reports every answer that differs from the one before, for ever."""
    last = empty(check)
    async for answer in _answers(check, probe, f"{check['type']} check"):
        if (now := answer or empty(check)) != last:
            last = now
            report(now)


async def watch_health(check: Json, probe: Probe, report: Callable[[Health], None]) -> None:
    """Reports the first success, every failure after the time for the start, and the success after one, for ever."""
    loop = asyncio.get_running_loop()
    start_until = loop.time() + check.get("grace_period_seconds", _GRACE_PERIOD)
    most = check.get("consecutive_failures", _CONSECUTIVE_FAILURES)
    failures, starting = 0, True
    async for answer in _answers(check, probe, name := f"{check['type']} health check"):
        if answer is not None and _is_healthy(answer):
            if starting or failures:
                report(Health(healthy=True))
            failures, starting = 0, False
        elif not starting or loop.time() > start_until:
            failures += 1
            say(f"{name} failed {failures} times consecutively")
            report(Health(healthy=False, kill=failures >= most))


async def _answers(check: Json, probe: Probe, name: str) -> AsyncIterator[Json | None]:
    """What the probe answers, each time; None for no answer. It does not count that the task was not asked."""
    timeout = check.get("timeout_seconds", _TIMEOUT)
    await asyncio.sleep(check.get("delay_seconds", _DELAY))
    while True:
        answer, asked = None, True
        try:
            async with asyncio.timeout(timeout or None):
                answer = await probe()
        except TimeoutError:
            say(f"{name} timed out after {timeout:g} s")
        except CheckError as error:
            say(f"{name} failed: {error}")
        except UnaskedError as error:
            say(f"{name} could not be performed: {error}")
            asked = False
        if asked:
            yield answer
        await asyncio.sleep(check.get("interval_seconds", _INTERVAL))


def _is_healthy(answer: Json) -> bool:
    if answer["type"] == "COMMAND":
        return bool(answer["command"]["exit_code"] == 0)
    if answer["type"] == "HTTP":
        return bool(200 <= answer["http"]["status_code"] < 400)
    return bool(answer["tcp"]["succeeded"])
