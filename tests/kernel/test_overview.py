"""`/overview`: what the page and people get to see of the machine and its containers."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process import AgentProcess, identity

pytestmark = pytest.mark.kernel


def overview(agent: AgentProcess, **headers: str) -> Any:
    answer = agent.get("/overview", **headers)
    assert answer.status == 200, answer.text
    return answer.json


def by_id(found: Any) -> dict[str, Any]:
    return {entry["id"]: entry for entry in found["containers"]}


def test_what_there_is_of_containers_from_their_launch_to_their_removal(agent: AgentProcess) -> None:
    agent.start()
    began = time.time()
    assert agent.launch("web", "echo on; sleep 1000", command={"user": "nobody"}).status == 200
    assert agent.launch("side", ["sh", "-c", "sleep 1000"], nested_in="web").status == 200
    assert agent.launch("done", "exit 3").status == 200
    agent.wait_for("done")
    found = overview(agent)
    assert set(by_id(found)) == {"web", "web.side", "done"}
    web, side, done = (by_id(found)[name] for name in ("web", "web.side", "done"))
    assert (web["state"], web["parent"], web["user"], web["image"]) == ("RUNNING", None, "nobody", None)
    assert (web["command"], side["command"]) == ("echo on; sleep 1000", "sh -c 'sleep 1000'")
    assert (side["state"], side["parent"]) == ("RUNNING", "web")
    assert Path(f"/proc/{web['pid']}").exists()
    assert web["statistics"]["mem_total_bytes"] > 0
    assert "cgroups/mem" in web["isolators"]
    assert "volume/host_path" not in web["isolators"], "it asked for no volume"
    assert {"cgroups/mem", "volume/host_path"} <= set(found["agent"]["isolation"])
    assert agent.get(f"/files/read?path={web['sandbox']}/stdout&offset=0").json["data"] == "on\n"
    assert (done["state"], done["status"], done["exit_status"], done["reason"]) == ("ENDED", 3 << 8, 3, None)
    named = agent.get("/overview?statistics=false").json
    assert (set(by_id(named)), named["machine"]) == (set(by_id(found)), {})
    assert set(by_id(agent.get("/overview?statistics=false&id=w").json)) == {"web", "web.side"}
    assert not {"statistics", "pid"} & by_id(named)["web"].keys()
    assert agent.get("/overview?statistics=no").status == 400
    assert began - 1 <= done["launched"] <= done["ended"] <= time.time() + 1
    assert [web["ended"], web["launched"] >= began - 1] == [None, True]
    assert found["ended_total"] == 1
    assert agent.stop() == 0
    agent.start()
    assert {name: entry["launched"] for name, entry in by_id(overview(agent)).items()} == {
        name: entry["launched"] for name, entry in by_id(found).items()
    }, "it is on record"
    assert agent.call("REMOVE_CONTAINER", container_id=identity("done")).status == 200
    assert set(by_id(overview(agent))) == {"web", "web.side"}


def test_the_machine(agent: AgentProcess) -> None:
    agent.start()
    first = overview(agent)["machine"]
    sum(range(3 * 10**6))  # The machine has worked in any case.
    second = overview(agent)["machine"]
    assert first["cpus"] == os.cpu_count()
    assert second["timestamp"] > first["timestamp"]
    assert second["cpu_busy_secs"] >= first["cpu_busy_secs"] > 0
    assert 0 < first["mem_used_bytes"] < first["mem_total_bytes"]
    assert 0 < first["disk_used_bytes"] <= first["disk_total_bytes"]
    assert first["processes"] > 1


def test_who_may_see_it(agent: AgentProcess, run_directory: Path) -> None:
    credentials = run_directory / "credentials"
    credentials.write_text("ops secret\nweb secret\nnobody secret\n")
    credentials.chmod(0o600)
    ops = {"values": ["ops"]}
    anybody = {"type": "ANY"}
    lists = {
        "get_endpoints": [
            {"principals": {"values": ["nobody"]}, "paths": {"type": "NONE"}},
        ],
        "view_standalone_containers": [
            {"principals": ops, "users": anybody},
            {"principals": anybody, "users": {"type": "NONE"}},
        ],
    }
    agent.start(f"--http_credentials={credentials}", "--authenticate_http_readonly", f"--acls={json.dumps(lists)}")
    assert agent.launch("x", "sleep 1000").status == 200
    assert agent.launch("y", "true").status == 200
    agent.wait_for("y")
    assert agent.get("/overview").status == 401
    assert set(by_id(overview(agent, **as_("ops")))) == {"x", "y"}
    hidden = overview(agent, **as_("web"))
    assert (hidden["containers"], hidden["ended_total"], hidden["agent"]["principal"]) == ([], 0, "web")
    assert agent.get("/overview", **as_("nobody")).status == 403


def test_pages_of_others_change_nothing(agent: AgentProcess) -> None:
    """Also where a name has been made to lead here, so that such a page is one of the agent's to the browser."""
    agent.start()
    body = json.dumps({"type": "GET_HEALTH"}).encode()
    own, evil = f"{agent.host}:{agent.port}", f"evil.example.org:{agent.port}"
    for host, origin, status in (
        *((own, None, 200), (evil, None, 200), (own, f"http://{own}", 200)),
        *((own, f"http://{evil}", 403), (own, "null", 403), (evil, f"http://{evil}", 403)),
    ):
        headers = {"Content-Type": "application/json", "Host": host, **({"Origin": origin} if origin else {})}
        assert agent.request("POST", "/api/v1", body, headers).status == status, (host, origin)


def as_(principal: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{principal}:secret'.encode()).decode()}"}
