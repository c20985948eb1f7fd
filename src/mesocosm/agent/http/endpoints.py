"""All that the agent answers, and where."""

from __future__ import annotations

from collections.abc import Mapping

from mesocosm.agent.agent import Agent
from mesocosm.agent.authentication import Realm
from mesocosm.agent.http import executor, state, v0, v1
from mesocosm.agent.http.access import Access
from mesocosm.agent.http.help import Help
from mesocosm.agent.http.output import Output
from mesocosm.agent.http.overview import Overview
from mesocosm.agent.http.page import Page
from mesocosm.agent.http.routes import Route, Routes
from mesocosm.agent.http.sessions import SessionCalls
from mesocosm.agent.http.streams import StreamHandler
from mesocosm.agent.http.tasks import LocalTasks
from mesocosm.agent.http.terminal import Terminals
from mesocosm.agent.logs import Logs
from mesocosm.agent.metrics import Metrics
from mesocosm.agent.rate_limit import RateLimiter


def add_endpoints(
    routes: Routes,
    agent: Agent,
    access: Access,
    metrics: Metrics,
    limit: RateLimiter | None,
    logs: Logs,
    address: state.Address,
) -> None:
    """Fills `routes`. `limit` is how often there is a snapshot of the metrics, `address` where the agent is reached."""
    sessions = SessionCalls(agent, access)
    output = Output(agent, access)
    streams: Mapping[str, StreamHandler] = {
        "LAUNCH_NESTED_CONTAINER_SESSION": sessions.launch,
        "ATTACH_CONTAINER_INPUT": sessions.attach_input,
        "ATTACH_CONTAINER_OUTPUT": output.attach,
    }
    api = v1.Api(agent, access, metrics, logs, address, streams)
    summary = "The calls of the v1 API, in JSON or protobuf."
    routes.add(Route("/api/v1", api.handle, Realm.READ_WRITE, frozenset({"POST"}), summary), of_agent=True)
    executors = executor.ExecutorApi(agent)
    summary = "The calls of the API for executors, in JSON or protobuf."
    routes.add(Route("/api/v1/executor", executors.handle, Realm.EXECUTOR, frozenset({"POST"}), summary), of_agent=True)
    v0.Endpoints(agent, access, metrics, limit, logs, address).add_to(routes)
    summary = "What comes into the file `path` from `offset` on; until the container `until` ends, if it is given."
    routes.add(Route("/files/follow", output.follow, methods=frozenset({"GET"}), summary=summary))
    tasks = LocalTasks(agent, address)
    summary = "Runs a TaskInfo or a TaskGroupInfo where there is no master, and tells how it goes."
    routes.add(Route("/tasks", tasks.submit, Realm.READ_WRITE, frozenset({"POST"}), summary))
    routes.add(Route("/tasks/kill", tasks.kill, Realm.READ_WRITE, frozenset({"POST"}), "Kills tasks of /tasks."))
    overview = Overview(agent, access, address)
    routes.add(
        Route("/overview", overview.handle, summary="The machine, and its containers with those that have ended.")
    )
    terminals = Terminals(agent, sessions)
    summary = "Gives a ticket for the session of such a call, which `/terminal/connect` opens as a WebSocket."
    routes.add(Route("/terminal", terminals.prepare, Realm.READ_WRITE, frozenset({"POST"}), summary))
    routes.add(Route("/terminal/connect", terminals.connect, realm=None, methods=frozenset({"GET"})))
    Page().add_to(routes)
    routes.add(Route("/help", Help(routes).handle, realm=None, summary="What there is, also as `format=json`."))
