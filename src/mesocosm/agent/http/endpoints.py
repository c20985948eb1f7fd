"""All that the agent answers, and where."""

from __future__ import annotations

from mesocosm.agent.agent import Agent
from mesocosm.agent.authentication import Realm
from mesocosm.agent.http import state, v0, v1
from mesocosm.agent.http.access import Access
from mesocosm.agent.http.routes import Route, Routes
from mesocosm.agent.logs import Logs
from mesocosm.agent.metrics import Metrics


def add_endpoints(
    routes: Routes, agent: Agent, access: Access, metrics: Metrics, logs: Logs, address: state.Address
) -> None:
    """Fills `routes`. `address` is where the agent can be reached."""
    api = v1.Api(agent, access, metrics, logs, address)
    routes.add(Route("/api/v1", api.handle, Realm.READ_WRITE, frozenset({"POST"})), of_agent=True)
    v0.Endpoints(agent, access, metrics, logs, address).add_to(routes)
