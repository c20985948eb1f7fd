"""Who reaches the agent as a process and may do what there; how it listens, logs, and reports to a service manager.

Credentials and lists for each call are in test_agent_protocol.py. Here it matters whose the containers are.
"""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import signal
import socket
import ssl
import stat
import subprocess
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process import AgentProcess, Answer
from tests.command_line import MESOCOSM, TIMEOUT
from tests.talking import listening, typing
from tests.tls import secured

pytestmark = pytest.mark.kernel

SECRET = "open-sesame"
ANY, NONE = {"type": "ANY"}, {"type": "NONE"}
UNDER = "under_parent_with_user"
GUARD = ("--authenticate_http_readonly", "--authenticate_http_readwrite")
LISTED = (
    *("/containers", "/containerizer/debug", "/files/debug", "/logging/toggle"),
    *("/metrics/snapshot", "/monitor/statistics"),
)


class Client:
    """Requests of one principal; of nobody known without a name."""

    def __init__(self, agent: AgentProcess, principal: str = "", secret: str = SECRET) -> None:
        self._agent = agent
        token = base64.b64encode(f"{principal}:{secret}".encode()).decode()
        self.headers = {"Authorization": f"Basic {token}"} if principal else {}

    def get(self, path: str) -> Answer:
        return self._agent.get(path, **self.headers)

    def call(self, kind: str, **fields: Any) -> Answer:
        message = {"type": kind, **({kind.lower(): fields} if fields else {})}
        headers = {"Content-Type": "application/json", **self.headers}
        return self._agent.request("POST", "/api/v1", json.dumps(message).encode(), headers)

    def launch(self, name: str, kind: str = "LAUNCH_CONTAINER", **command: str) -> int:
        """The status of a launch of what ends when it is killed. `top.inner` is nested in `top`."""
        return self.call(kind, container_id=named(name), command={"value": "sleep 1000", **command}).status


def named(name: str) -> dict[str, Any]:
    above, _, value = name.rpartition(".")
    return {"value": value, "parent": named(above)} if above else {"value": value}


@pytest.fixture
def credentials(run_directory: Path) -> str:
    """The flag with a file of two principals, ops and web."""
    path = run_directory / "credentials"
    path.write_text(f"ops {SECRET}\nweb {SECRET}\n")
    path.chmod(0o600)
    return f"--http_credentials={path}"


def for_ops(objects: str, *values: str) -> list[dict[str, Any]]:
    """Rules that give those objects, or all, to ops, and nothing to others."""
    chosen = {"values": list(values)} if values else ANY
    return [{"principals": {"values": ["ops"]}, objects: chosen}, {"principals": ANY, objects: NONE}]


def acls(**lists: list[dict[str, Any]]) -> str:
    return f"--acls={json.dumps(lists)}"


# Who asks.


@pytest.mark.parametrize(("realm", "path"), [("readonly", "/flags"), ("readwrite", "/logging/toggle")])
def test_each_realm_has_a_flag(agent: AgentProcess, credentials: str, realm: str, path: str) -> None:
    agent.start(credentials, f"--authenticate_http_{realm}")
    for client in (Client(agent), Client(agent, "ops", "wrong"), Client(agent, "nobody")):
        answer = client.get(path)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, f'Basic realm="mesos-agent-{realm}"')
    assert Client(agent, "ops").get(path).status == 200
    without = Client(agent).get("/flags").status, Client(agent).call("GET_HEALTH").status
    assert without == ((401, 200) if realm == "readonly" else (200, 401))


def test_the_operator_socket_is_no_way_around(agent: AgentProcess, credentials: str, run_directory: Path) -> None:
    path = run_directory / "agent.sock"
    agent.start(credentials, *GUARD, f"--operator_socket={path}")
    assert agent.request("GET", "/flags", unix_socket=path).status == 401


# Who may do what.


def test_what_is_the_agents_own(agent: AgentProcess, credentials: str, run_directory: Path) -> None:
    lists = acls(
        view_flags=for_ops("flags"),
        set_log_level=for_ops("level"),
        access_mesos_logs=for_ops("logs"),
        get_endpoints=for_ops("paths", *LISTED),
    )
    agent.start(credentials, *GUARD, lists, f"--log_dir={run_directory / 'log'}")
    ops, web = Client(agent, "ops"), Client(agent, "web")
    for path in (*LISTED, "/flags"):
        assert (web.get(path).status, ops.get(path).status) == (403, 200), path
    level = {"level": 1, "duration": {"nanoseconds": 10**9}}
    assert (web.call("GET_FLAGS").status, ops.call("GET_FLAGS").status) == (403, 200)
    assert (web.call("SET_LOGGING_LEVEL", **level).status, ops.call("SET_LOGGING_LEVEL", **level).status) == (403, 200)
    assert seen(web, "/slave/log") == {403}
    assert seen(ops, "/slave/log") == {200}
    assert "listening on" in ops.get("/files/download?path=/slave/log").text


def test_sandboxes_are_their_users(agent: AgentProcess, credentials: str) -> None:
    arguments = (credentials, *GUARD, acls(access_sandboxes=for_ops("users", "nobody")))
    agent.start(*arguments)
    ops, web = Client(agent, "ops"), Client(agent, "web")
    assert ops.launch("his", user="nobody") == 200
    assert ops.launch("his.inner") == 200, "of root, in a sandbox of nobody"
    assert [ops.launch("own"), ops.launch("root", user="0"), ops.launch("number", user="65534")] == [200] * 3

    def check() -> None:
        for sandbox in ("/containers/his", str(agent.sandbox("his")), "/containers/his/containers/inner"):
            assert (seen(ops, f"{sandbox}/stdout"), seen(web, f"{sandbox}/stdout")) == ({200}, {403})
        for name in ("own", "root", "number"):
            assert (seen(ops, f"/containers/{name}/stdout"), seen(web, f"/containers/{name}/stdout")) == ({403}, {403})

    check()
    agent.stop()
    agent.start(*arguments)
    check()
    for name in ("his", "own", "root", "number"):
        assert ops.call("KILL_CONTAINER", container_id=named(name)).status == 200
        assert ops.call("WAIT_CONTAINER", container_id=named(name)).status == 200
    check()
    agent.stop()
    agent.start(*arguments)
    check()
    assert ops.call("REMOVE_CONTAINER", container_id=named("his")).status == 200
    assert seen(ops, "/containers/his/stdout") == {404}


@pytest.mark.parametrize("kind", ["LAUNCH_CONTAINER", "LAUNCH_NESTED_CONTAINER"])
def test_launches_below_others(agent: AgentProcess, credentials: str, kind: str) -> None:
    lists = {f"launch_nested_containers_{name}": for_ops("users", "nobody") for name in ("as_user", UNDER)}
    agent.start(credentials, *GUARD, acls(**lists))
    ops, web = Client(agent, "ops"), Client(agent, "web")
    assert (web.launch("his", user="nobody"), web.launch("own")) == (200, 200)
    assert ops.launch("his.a", kind, user="nobody") == 200
    assert web.launch("his.b", kind, user="nobody") == 403
    for user in ({}, {"user": "root"}, {"user": "0"}, {"user": "0:0"}, {"user": "65534:0"}):
        assert ops.launch("his.c", kind, **user) == 403, user
    assert ops.launch("own.d", kind, user="nobody") == 403
    assert ops.launch("nonesuch.e", kind, user="nobody") == 403, "what there is not is root's"
    assert ops.launch("his.a.f", kind, user="nobody") == 200, "the user of the top-level container counts"
    assert {"a", "f"} == shown(ops) - {"his", "own"}


def test_nobody_may_be_root(agent: AgentProcess, credentials: str) -> None:
    """The lists of Mesos's documentation, which forbid one user and allow all others."""
    rule = {"principals": NONE, "users": {"values": ["root"]}}
    agent.start(credentials, *GUARD, acls(launch_nested_containers_as_user=[rule], access_sandboxes=[rule]))
    ops = Client(agent, "ops")
    assert ops.launch("own") == 200
    for user in ({}, {"user": "root"}, {"user": "0"}, {"user": "00"}, {"user": "0:65534"}):
        assert ops.launch("own.inner", **user) == 403, user
    assert ops.launch("own.inner", user="nobody") == 200
    assert seen(ops, "/containers/own/stdout") == {403}


def test_what_is_done_with_nested_containers(agent: AgentProcess, credentials: str) -> None:
    verbs = ("kill", "wait", "remove")
    lists = {f"{verb}_nested_containers": for_ops("users", "nobody") for verb in verbs}
    agent.start(credentials, *GUARD, acls(**lists))
    ops, web = Client(agent, "ops"), Client(agent, "web")
    for top, user in {"his": {"user": "nobody"}, "own": {}}.items():
        assert [ops.launch(top, **user), ops.launch(f"{top}.inner")] == [200, 200]
    for verb in verbs:
        for kind in (f"{verb}_container".upper(), f"{verb}_nested_container".upper()):
            in_his, in_own = ({"container_id": named(f"{top}.inner")} for top in ("his", "own"))
            assert (web.call(kind, **in_his).status, ops.call(kind, **in_own).status) == (403, 403), kind
        assert ops.call(f"{verb}_nested_container".upper(), **in_his).status == 200


def test_who_may_use_a_container(agent: AgentProcess, credentials: str) -> None:
    """A session by its user and by that of the top-level container, an input by the latter only."""
    sessions = [f"launch_nested_container_sessions_{name}" for name in ("as_user", UNDER)]
    agent.start(
        credentials, *GUARD, acls(**{n: for_ops("users", "nobody") for n in (*sessions, "attach_containers_input")})
    )
    ops, web = Client(agent, "ops"), Client(agent, "web")
    assert (web.launch("his", user="nobody"), web.launch("own")) == (200, 200)

    def session(client: Client, name: str, **command: str) -> int:
        asked = {"container_id": named(name), "command": {"value": "true", **command}}
        with listening(agent, "LAUNCH_NESTED_CONTAINER_SESSION", headers=client.headers, **asked) as answer:
            return answer.status

    assert session(ops, "his.a", user="nobody") == 200
    assert session(web, "his.b", user="nobody") == 403
    assert session(ops, "his.c", user="root") == session(ops, "his.c") == session(ops, "own.c", user="nobody") == 403

    def attach(client: Client, name: str) -> int:
        with typing(agent, named(name), headers=client.headers) as keyboard:
            return keyboard.answer().status

    assert [attach(client, name) for client in (ops, web) for name in ("his", "own")] == [500, 403, 403, 403]
    assert attach(Client(agent, "ops", "wrong"), "his") == 401


def test_containers_that_may_not_be_viewed(agent: AgentProcess, credentials: str) -> None:
    agent.start(credentials, *GUARD, acls(view_standalone_containers=for_ops("users")))
    ops, web = Client(agent, "ops"), Client(agent, "web")
    assert [ops.launch("top"), ops.launch("top.inner")] == [200, 200]
    assert (shown(ops), shown(web)) == ({"top", "inner"}, set())
    for path, number in {"/containers?show_nested=true&show_standalone=true": 2, "/monitor/statistics": 1}.items():
        assert (len(ops.get(path).json), web.get(path).json) == (number, [])


def seen(client: Client, path: str) -> set[int]:
    """The statuses of all ways to see a file."""
    endpoints = [client.get(f"/files/{name}?path={path}&offset=0") for name in ("browse", "read", "download")]
    calls = [client.call("LIST_FILES", path=path), client.call("READ_FILE", path=path, offset=0)]
    return {answer.status for answer in (*endpoints, *calls)}


def shown(client: Client) -> set[str]:
    answer = client.call("GET_CONTAINERS", show_nested=True, show_standalone=True).json
    return {entry["container_id"]["value"] for entry in answer.get("get_containers", {}).get("containers", ())}


# TLS.


def status_by_tls(agent: AgentProcess, context: ssl.SSLContext) -> int:
    with closing(HTTPSConnection("localhost", agent.port, timeout=TIMEOUT, context=context)) as connection:
        connection.request("GET", "/health")
        return connection.getresponse().status


def test_tls_and_nothing_else(agent: AgentProcess, certificates: Path) -> None:
    agent.start(env=secured(certificates))
    assert f"listening on https://127.0.0.1:{agent.port}" in agent.log.read_text()
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    assert status_by_tls(agent, context) == 200
    with pytest.raises((HTTPException, OSError)):
        agent.get("/health")
    with pytest.raises(ssl.SSLCertVerificationError):
        status_by_tls(agent, ssl.create_default_context())
    assert status_by_tls(agent, context) == 200, "the others have done no harm"


def test_tls_with_certificates_of_clients(agent: AgentProcess, certificates: Path) -> None:
    agent.start(env=secured(certificates, REQUIRE_CLIENT_CERT="true"))
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    with pytest.raises(OSError):  # An alert, or the end of the connection.
        status_by_tls(agent, context)
    context.load_cert_chain(certificates / "agent.pem", certificates / "agent.key")
    assert status_by_tls(agent, context) == 200


def test_tls_that_cannot_be_had(agent: AgentProcess, certificates: Path) -> None:
    result = run(agent, env=secured(certificates, KEY_FILE=str(certificates / "ca.key")))
    key, certificate = certificates / "ca.key", certificates / "agent.pem"
    text = f"mesocosm: LIBPROCESS_SSL_KEY_FILE: {key} is not the key of the certificate {certificate}\n"
    assert (result.returncode, result.stderr) == (125, text)


# Where it listens.


def test_alone_it_listens_on_loopback_and_says_so(agent: AgentProcess) -> None:
    agent.start()
    assert f"on http://127.0.0.1:{agent.port}, so for this machine only: --ip says otherwise\n" in agent.log.read_text()


@pytest.mark.parametrize("ip", ["0.0.0.0", "::1", "127.0.0.2"])
def test_other_addresses(agent: AgentProcess, ip: str) -> None:
    if ":" in ip and not (Path("/proc/net/if_inet6").exists() and Path("/proc/net/if_inet6").read_text()):
        pytest.skip("needs IPv6")
    agent.start(f"--ip={ip}")
    where = f"[{ip}]" if ":" in ip else ip
    log = agent.log.read_text()
    assert f"listening on http://{where}:{agent.port}\n" in log
    assert ("may run commands as root" in log) is (ip == "0.0.0.0")
    agent.host = "127.0.0.1" if ip == "0.0.0.0" else ip
    assert agent.get("/health").status == 200


def test_a_port_that_is_in_use(agent: AgentProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run(agent, f"--port={port}")
        where = f"127.0.0.1:{port}: Address already in use"
        text = f"mesocosm: --ip, --port: cannot listen on {where}; stop what has it, or give another --port\n"
        assert (result.returncode, result.stderr) == (125, text)


def test_an_address_that_is_none_of_ours(agent: AgentProcess) -> None:
    result = run(agent, "--ip=192.0.2.1")
    assert result.returncode == 125
    assert "cannot listen on 192.0.2.1:0: Cannot assign requested address; give another --ip\n" in result.stderr


def test_what_is_at_the_operator_socket(agent: AgentProcess, run_directory: Path) -> None:
    path = run_directory / "agent.sock"
    path.write_text("precious")
    flag = f"--operator_socket={path}"
    line = f"mesocosm: --operator_socket: {path} is there, and no socket; remove it, or give another path"
    assert run(agent, flag).stderr.splitlines()[-1] == line
    assert path.read_text() == "precious"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        line = f"mesocosm: --operator_socket: another process listens on {path}; give each agent a path of its own"
        assert run(agent, flag).stderr.splitlines()[-1] == line
    assert path.exists()
    agent.start(flag)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert agent.request("GET", "/health", unix_socket=path).status == 200
    result = run(agent, f"--operator_socket={run_directory}/none/agent.sock", fresh=True)
    assert result.stderr.splitlines()[-1].endswith("none/agent.sock: No such file or directory")


# What it logs.


def test_the_log_file_is_opened_again(agent: AgentProcess, run_directory: Path) -> None:
    log = run_directory / "log" / "mesocosm-agent.log"
    agent.start(f"--log_dir={log.parent}")
    assert "listening on" in log.read_text()
    log.rename(log.with_suffix(".1"))
    os.kill(agent.pid, signal.SIGHUP)
    assert agent.get("/health").status == 200, "the signal has come before"
    assert log.exists()
    assert agent.launch("odd", "true", command={"user": "nosuch"}).status == 400
    assert "WARNING mesocosm.agent.agent not launched" in log.read_text()


def test_quiet(agent: AgentProcess, run_directory: Path) -> None:
    with manager(run_directory) as inbox:
        agent.spawn("--quiet", f"--log_dir={run_directory / 'log'}", env=told(run_directory))
        assert inbox.recv(100) == b"READY=1"
    assert agent.stop() == 0
    assert agent.log.read_text() == ""
    assert "the agent ends" in (run_directory / "log" / "mesocosm-agent.log").read_text()


def test_more_is_logged_for_a_while(agent: AgentProcess) -> None:
    agent.start()
    assert agent.call("SET_LOGGING_LEVEL", level=1, duration={"nanoseconds": 10**8}).status == 200
    agent.await_log(re.compile(r"is 1\n(?s:.*)is 0\n"))
    assert agent.get("/logging/toggle?level=2&duration=10mins").status == 200
    assert agent.call("GET_LOGGING_LEVEL").json["get_logging_level"] == {"level": 2}
    assert "DEBUG mesocosm.agent.http.v1 processing GET_LOGGING_LEVEL" in agent.log.read_text()
    assert agent.get("/logging/toggle?level=3&duration=100ms").status == 200
    agent.await_log(re.compile(r"is 2\n(?s:.*)is 3\n(?s:.*)is 0\n"))
    assert agent.get("/logging/toggle").text == "0\n"


# What a service manager sees.


def manager(directory: Path) -> socket.socket:
    """What systemd would listen on."""
    inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    inbox.settimeout(TIMEOUT)
    inbox.bind(str(directory / "notify"))
    return inbox


def told(directory: Path, **more: str) -> Mapping[str, str]:
    """The environment of a service."""
    return os.environ | {"NOTIFY_SOCKET": str(directory / "notify"), **more}


def test_a_service_manager_is_told(agent: AgentProcess, run_directory: Path) -> None:
    with manager(run_directory) as inbox:
        agent.start(env=told(run_directory))
        assert agent.launch("x", "sleep 1000").status == 200
        assert (inbox.recv(100), agent.stop(), inbox.recv(100)) == (b"READY=1", 0, b"STOPPING=1")
        agent.spawn(env=told(run_directory, WATCHDOG_USEC="200000"))
        assert inbox.recv(100) == b"READY=1"
        assert "recovered 1 containers" in agent.log.read_text()
        assert [inbox.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3


def test_a_watchdog_gets_to_see_where_it_stands(agent: AgentProcess) -> None:
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    try:
        agent.start()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
    assert agent.stop(signal.SIGABRT) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in agent.log.read_text()


# The command line.


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "--work_dir is missing; write --work_dir=PATH"),
        (("--wrok_dir=x",), "there is no flag '--wrok_dir'; did you mean --work_dir?"),
        (("--work_dir", "x"), "'x' is no flag; write --work_dir=VALUE, as one word"),
        (("--work_dir=x", "--port=70000"), "--port: '70000' is no whole number from 0 to 65535"),
        (("--work_dir=x", "--ip=localhost"), "--ip: 'localhost' is no IP address"),
        (
            ("--work_dir=x", "--authenticate_http_readonly"),
            "--authenticate_http_readonly needs --http_credentials; name the file of the credentials",
        ),
    ],
)
def test_command_lines_that_make_no_sense(arguments: tuple[str, ...], line: str, run_directory: Path) -> None:
    result = command(*arguments, cwd=run_directory)
    assert (result.returncode, result.stdout, result.stderr) == (125, "", f"mesocosm: {line}\n")
    assert list(run_directory.iterdir()) == []


def test_questions() -> None:
    for arguments in (("--help",), ("-h",), ("--nonsense", "--help")):
        result = command(*arguments)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith("Usage: mesocosm agent --work_dir=PATH [--FLAG=VALUE]...")
    result = command("--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"mesocosm \d\S+\n", result.stdout)


def test_lists_and_credentials_that_make_no_sense(agent: AgentProcess, run_directory: Path) -> None:
    (run_directory / "secrets").write_text("ops\n")
    for arguments, line in {
        (acls(view_task=[]),): "--acls: there is no action 'view_task'; did you mean 'view_tasks'?",
        (f"--http_credentials={run_directory}/secrets",): f"--http_credentials: {run_directory}/secrets: line 1 is no"
        " credential; give a principal without a colon, and a secret; neither is empty",
    }.items():
        result = run(agent, *arguments)
        assert (result.returncode, result.stderr.splitlines()[-1]) == (125, f"mesocosm: {line}")


def command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The end of `mesocosm agent`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MESOS_")}
    argv = [*MESOCOSM, "agent", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd=cwd, env=env)


def run(
    agent: AgentProcess, *arguments: str, env: Mapping[str, str] = os.environ, fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    """The end of an agent that cannot be; `fresh` is one with other directories."""
    names = {argument.partition("=")[0] for argument in arguments}
    argv = [argument for argument in agent.argv() if argument.partition("=")[0] not in names]
    if fresh:
        argv = [argument.replace(f"{agent.flags.work_dir}", f"{agent.flags.work_dir}2") for argument in argv]
        argv = [argument.replace(f"{agent.flags.runtime_dir}", f"{agent.flags.runtime_dir}2") for argument in argv]
    return subprocess.run(
        [*argv, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False, env=dict(env)
    )
