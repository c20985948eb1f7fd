"""One task: what it has said of itself last, what checks it, and how long it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mesocosm.executors import statuses
from mesocosm.executors.checks import probes
from mesocosm.executors.checks.checker import Health, empty, refusal, watch, watch_health
from mesocosm.executors.checks.probes import Place
from mesocosm.executors.client import Client
from mesocosm.executors.statuses import Json
from mesocosm.executors.tasks import id_of, seconds_of


class Task:
    """A task of an executor; `fixed` are fields that each of its statuses has."""

    def __init__(self, info: Json, client: Client, executor_id: str, **fixed: Any) -> None:
        self.info = info
        self.task_id = id_of(info)
        self.unhealthy = False
        self._client = client
        self._executor_id = executor_id
        self._fixed = fixed
        self._last: Json = {}
        self._checks: list[asyncio.Future[None]] = []
        self._limit: asyncio.TimerHandle | None = None
        if "check" in info and refusal(info["check"]) is None:
            self._fixed["check_status"] = empty(info["check"])

    @property
    def refusal(self) -> str | None:
        """Why it cannot be run by any executor, if so."""
        for name in ("check", "health_check"):
            if name in self.info and (reason := refusal(self.info[name])):
                return f"the {name.replace('_', ' ')} of the task is invalid: {reason}"
        return None

    def describe(self, **fields: Any) -> None:
        """Has each of its statuses say this, too, from now on."""
        self._fixed |= fields

    def report(self, state: str, **more: Any) -> None:
        """Tells the agent of a state that it has come to. What is None is left out."""
        self._last = statuses.make(self._executor_id, self.task_id, state, **{**self._fixed, **more})
        self._client.update(self._last)

    def _report_again(self, **changes: Any) -> None:
        """Tells it of the state that it is in, with something new."""
        self._last = statuses.again(self._last, **changes)
        self._client.update(self._last)

    def follow(self, place: Place, *, exceeded: Callable[[], None], unhealthy: Callable[[], None]) -> None:
        """From now on it is checked as it asks for, where it is.

        Calls one of both when it is to be ended for that, or for its time.
        """
        if limit := seconds_of(self.info.get("max_completion_time")):
            self._limit = asyncio.get_running_loop().call_later(limit, exceeded)
        if (check := self.info.get("check")) is not None:
            self._begin(watch(check, probes.create(check, place), self._checked))
        if (check := self.info.get("health_check")) is not None:

            def tell(health: Health) -> None:
                self._report_again(reason="REASON_TASK_HEALTH_CHECK_STATUS_UPDATED", healthy=health.healthy)
                if health.kill:
                    self.unhealthy = True
                    unhealthy()

            self._begin(watch_health(check, probes.create(check, place), tell))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._checks.append(asyncio.ensure_future(work))

    def _checked(self, answer: Json) -> None:
        self._report_again(reason="REASON_TASK_CHECK_STATUS_UPDATED", check_status=answer)

    def settle(self) -> None:
        """It is to end, or has: nothing is checked any more."""
        for check in self._checks:
            check.cancel()
        if self._limit is not None:
            self._limit.cancel()
