"""What the agent's clients ask for to confine a container, and what its operator says, down to the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process import AgentProcess, identity

pytestmark = pytest.mark.kernel
ISOLATION = "filesystem/linux,namespaces/pid,linux/capabilities,linux/seccomp,linux/nnp,posix/rlimits"
SHOW = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; ulimit -n"
CHOWN, KILL = "0000000000000001", "0000000000000020"


def shown(agent: AgentProcess, name: str, nested_in: str | None = None, **container: Any) -> list[str]:
    """The values that a container shows."""
    fields = {"container": {"type": "MESOS", **container}} if container else {}
    answer = agent.launch(name, SHOW, nested_in=nested_in, **fields)
    assert answer.status == 200, answer.text
    assert agent.wait_for(name, nested_in=nested_in) == {"exit_status": 0}
    directory = agent.sandbox(name) if nested_in is None else agent.sandbox(nested_in) / "containers" / name
    return [line.split()[-1] for line in (directory / "stdout").read_text().splitlines()]


def test_what_the_operator_and_a_client_say(agent: AgentProcess, run_directory: Path) -> None:
    default = {
        "type": "MESOS",
        "linux_info": {"bounding_capabilities": {"capabilities": ["CHOWN"]}},
        "rlimit_info": {"rlimits": [{"type": "RLMT_NOFILE", "soft": 33, "hard": 44}]},
    }
    agent.start(
        '--bounding_capabilities={"capabilities": ["CHOWN", "KILL"]}',
        "--seccomp_profile_name=default.json",
        f"--default_container_info={json.dumps(default)}",
        isolation=ISOLATION,
    )
    assert shown(agent, "default") == [CHOWN, CHOWN, "1", "2", "33"]
    own = {
        "linux_info": {
            "effective_capabilities": {"capabilities": ["KILL"]},
            "bounding_capabilities": {"capabilities": ["KILL"]},
            "seccomp": {"unconfined": True},
        },
        "rlimit_info": {"rlimits": [{"type": "RLMT_NOFILE", "soft": 55, "hard": 55}]},
    }
    assert shown(agent, "own", **own) == [KILL, KILL, "1", "0", "55"]
    assert agent.launch("parent", "sleep 1000").status == 200
    assert shown(agent, "kid", "parent", **own) == [KILL, KILL, "1", "0", "55"]


REFUSED = {
    "beyond the bound": (
        {"linux_info": {"effective_capabilities": {"capabilities": ["NET_RAW"]}}},
        "asks for the effective capabilities NET_RAW, but its bounding capabilities are CHOWN",
    ),
    "no profile": ({"linux_info": {"seccomp": {"profile_name": "none.json"}}}, "none.json' cannot be read"),
    "half a limit": ({"rlimit_info": {"rlimits": [{"type": "RLMT_CORE", "soft": 1}]}}, "RLMT_CORE has no hard limit"),
}


def test_what_is_refused(agent: AgentProcess) -> None:
    chown = '{"capabilities": ["CHOWN"]}'
    agent.start(f"--allowed_capabilities={chown}", f"--bounding_capabilities={chown}", isolation=ISOLATION)
    assert "--allowed_capabilities is deprecated; write --effective_capabilities" in agent.log.read_text()
    flags = {flag["name"]: flag.get("value") for flag in agent.call("GET_FLAGS").json["get_flags"]["flags"]}
    assert flags["effective_capabilities"] == '{"capabilities":["CHOWN"]}'
    for fields, text in REFUSED.values():
        answer = agent.launch("x", "true", container={"type": "MESOS", **fields})
        assert (answer.status, text in answer.text) == (400, True), answer.text
        assert agent.call("WAIT_CONTAINER", container_id=identity("x")).status == 404


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--seccomp_profile_name=none.json", "none.json' cannot be read: No such file or directory"),
        ('--bounding_capabilities={"capabilities": ["CHWN"]}', "there is no capability 'CHWN'"),
        ('--bounding_capabilities=["CHOWN"]', "JSON, but no object"),
        ('--bounding_capabilities={"capabilities": "CHOWN"}', "no CapabilityInfo"),
    ],
)
def test_flags_that_stop_it(agent: AgentProcess, flag: str, text: str) -> None:
    agent.spawn(flag, isolation=ISOLATION)
    assert agent.wait() != 0
    log = agent.log.read_text()
    assert text in log
    assert len(log.splitlines()) == 1
