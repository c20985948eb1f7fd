"""The flags of the agent as they are written: every form, every refusal, and what comes of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.agent.flags import Loaded, asked, load
from mesocosm.agent.flags.flag import Flag
from mesocosm.agent.flags.table import FLAGS, SPELLINGS
from mesocosm.errors import FlagError
from mesocosm.isolators.selection import REFUSED

WORK_DIR = "--work_dir=/agent"


def loaded(*arguments: str, **environment: str) -> Loaded:
    return load([WORK_DIR, *arguments], environment)


def value(loaded: Loaded, name: str) -> Any:
    return getattr(loaded.agent if hasattr(loaded.agent, name) else loaded.containerizer, name)


def refusal(*arguments: str, **environment: str) -> str:
    with pytest.raises(FlagError) as caught:
        loaded(*arguments, **environment)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("argument", "name", "expected", "text"),
    [
        ("--port=5061", "port", 5061, "5061"),
        ("--PORT=0", "port", 0, "0"),
        (" --port=5061 ", "port", 5061, "5061"),
        ("--gc_delay=2days", "gc_delay", 172800.0, "2days"),
        ("--gc-delay=36hrs", "gc_delay", 129600.0, "36hrs"),
        ("--disk_watch_interval=500ms", "disk_watch_interval", 0.5, "500ms"),
        ("--gc_disk_headroom=0.25", "gc_disk_headroom", 0.25, "0.25"),
        ("--fetcher_cache_size=1536MB", "fetcher_cache_size", 1536 << 20, "1536MB"),
        ("--fetcher_cache_dir=/cache//one/", "fetcher_cache_dir", Path("/cache/one"), "/cache/one"),
        ("--strict", "strict", True, "true"),
        ("--strict=", "strict", True, "true"),
        ("--strict=1", "strict", True, "true"),
        ("--strict=false", "strict", False, "false"),
        ("--strict=0", "strict", False, "false"),
        ("--no-strict", "strict", False, "false"),
        ("--no-strict=", "strict", False, "false"),
        ("--no_strict", "strict", False, "false"),
        ("--no-hostname-lookup", "hostname_lookup", False, "false"),
        ("--recover=cleanup", "recover", "cleanup", "cleanup"),
        ("--logging_level=ERROR", "logging_level", "ERROR", "ERROR"),
        ("--hooks=one, two,", "hooks", ("one", "two"), "one,two"),
        ("--hooks=", "hooks", (), ""),
        ("--containerizers=mesos", "containerizers", ("mesos",), "mesos"),
        ("--ip=::1", "ip", "::1", "::1"),
        ("--ip6=FD00:0::1", "ip6", "fd00::1", "fd00::1"),
        ("--hostname=agent.example.org", "hostname", "agent.example.org", "agent.example.org"),
        ("--acls={ }", "acls", {}, "{}"),
        ('--acls={"b": [1.5], "a": true}', "acls", {"b": [1.5], "a": True}, '{"a":true,"b":[1.5]}'),
        ("--operator_socket=/run/a.sock", "operator_socket", Path("/run/a.sock"), "/run/a.sock"),
        ("--launcher=posix", "launcher", "posix", "posix"),
        ("--isolation=", "isolation", "", ""),
        ("--cgroups_destroy_timeout=90secs", "cgroups_destroy_timeout", 90.0, "90secs"),
        ("--default_container_shm_size=64MB", "default_container_shm_size", 64 << 20, "64MB"),
    ],
)
def test_a_flag_and_its_value(argument: str, name: str, expected: object, text: str) -> None:
    result = loaded(argument)
    assert value(result, name) == expected
    assert result.texts[name] == text


def test_a_relative_path_is_one_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(["--work_dir=agent"], {}).containerizer.work_dir == tmp_path / "agent"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--wrok_dir=/x", "there is no flag '--wrok_dir'; did you mean --work_dir?"),
        ("--no-sttrict", "there is no flag '--no-sttrict'; did you mean --strict?"),
        ("--slave_subsystem=cpu", "there is no flag '--slave_subsystem'; did you mean --agent_subsystems?"),
        ("--zzz", "there is no flag '--zzz'; `mesocosm agent --help` lists them"),
        ("--", "there is no flag '--'; `mesocosm agent --help` lists them"),
        ("--=x", "there is no flag '--'; `mesocosm agent --help` lists them"),
        ("--a\nb", r"there is no flag '--a\nb'; `mesocosm agent --help` lists them"),
        ("-p", "'-p' is no flag; write --NAME=VALUE, as one word"),
        ("master", "'master' is no flag; write --NAME=VALUE, as one word"),
        ("--port", "--port needs a value; write --port=VALUE"),
        ("--no-port", "--no-port: --port is not yes or no; write --port=VALUE"),
        ("--no-strict=true", "--no-strict takes no value; write --strict='true', or leave the value out"),
        ("--strict=yes", "--strict: 'yes' is neither true nor false; write true or false"),
        ("--port=65536", "--port: '65536' is no whole number from 0 to 65535"),
        (
            "--container_ports_isolated_range=[100-65536]",
            "--container_ports_isolated_range: 100-65536 is no range of ports; the last port is 65535",
        ),
        *(
            (
                f"--container_ports_isolated_range={text}",
                f"--container_ports_isolated_range: '{text}' is no list of ranges; "
                "write [FIRST-LAST], or more of them, with commas",
            )
            for text in ("foo", "100")
        ),
        ("--port=-1", "--port: '-1' is no whole number from 0 to 65535"),
        ("--port=", "--port: '' is no whole number from 0 to 65535"),
        ("--advertise_port=0", "--advertise_port: '0' is no whole number from 1 to 65535"),
        ("--gc_disk_headroom=1.1", "--gc_disk_headroom: '1.1' is no number from 0 to 1"),
        ("--gc_disk_headroom=nan", "--gc_disk_headroom: 'nan' is no number from 0 to 1"),
        ("--disk_watch_interval=0secs", "--disk_watch_interval: '0secs' is too short; write more than 0"),
        ("--gc_delay=300000weeks", "--gc_delay: '300000weeks' is too long; Mesos counts nanoseconds, up to 292 years"),
        ("--ip=localhost", "--ip: 'localhost' is no IP address"),
        ("--ip6=127.0.0.1", "--ip6: '127.0.0.1' is no address of IPv6"),
        ("--hostname=", "--hostname: '' is no name; write at least one character, and no spaces"),
        ("--recover=restart", "--recover: 'restart' is not possible; write reconnect or cleanup"),
        ("--logging_level=info", "--logging_level: 'info' is not possible; write INFO or WARNING or ERROR"),
        ("--containerizers=mesos,rkt", "--containerizers: there is no 'rkt' here; write mesos or docker"),
        ("--hooks=a,b,a", "--hooks: 'a' is there twice; remove one of them"),
        ("--log_dir=", "--log_dir: '' is no path"),
        ("--sandbox_directory=mnt", "--sandbox_directory: 'mnt' is no absolute path; begin it with /"),
        ("--operator_socket=/" + "x" * 107, "is too long for a Unix socket; 107 bytes are possible"),
        ("--acls=[]", "--acls: the value is JSON, but no object; write {…}"),
        (
            "--acls={",
            "--acls: the value is no JSON: Expecting property name enclosed in double quotes: line 1 column 2",
        ),
        ('--acls={"a": NaN}', "--acls: the value is no JSON: NaN is no number"),
        ('--acls={"a":' + "[" * 100_000, "--acls: the value is no JSON: it is nested too deeply"),
        ("--hostname=\udcff", "--hostname: the value is no text in UTF-8"),
        ("--logrotate_max_stdout_size=1KB", "--logrotate_max_stdout_size: '1KB' is too little; the least is "),
    ],
)
def test_what_is_refused(argument: str, message: str) -> None:
    assert message in refusal(argument)


@pytest.mark.parametrize("text", ["1fortnight", "2MB", "", "soon"])
def test_a_bad_unit_of_a_duration(text: str) -> None:
    assert refusal(f"--gc_delay={text}").startswith(f"--gc_delay: {text!r} is no duration; write ")


@pytest.mark.parametrize("text", ["2secs", "2XB", "", "-1MB"])
def test_a_bad_unit_of_a_size(text: str) -> None:
    assert refusal(f"--fetcher_cache_size={text}").startswith(f"--fetcher_cache_size: {text!r} is no size; write ")


def test_a_value_after_a_space() -> None:
    with pytest.raises(FlagError, match=r"^'/x' is no flag; write --work_dir=VALUE, as one word$"):
        load(["--work_dir", "/x"], {})
    assert refusal("--strict", "false") == "'false' is no flag; write --strict=VALUE, as one word"


def test_the_work_directory_is_required() -> None:
    with pytest.raises(FlagError, match=r"^--work_dir is missing; write --work_dir=PATH$"):
        load([], {})


@pytest.mark.parametrize(
    "arguments", [("--port=1", "--port=1"), ("--gc-delay=1days", "--gc_delay=2days"), ("--strict", "--no-strict")]
)
def test_a_flag_given_twice(arguments: tuple[str, str]) -> None:
    assert " is given twice, by --" in refusal(*arguments)


def test_a_flag_given_twice_in_the_environment() -> None:
    message = refusal(MESOS_PORT="1", MESOS_port="2")
    assert message == "--port is given twice, by MESOS_PORT and MESOS_port; remove one of them"


@pytest.mark.parametrize(
    "flag", [flag for flag in FLAGS.values() if flag.served_by is None], ids=lambda flag: flag.name
)
def test_what_nothing_serves_is_refused(flag: Flag) -> None:
    hint = flag.instead or "remove it"
    assert refusal(f"--{flag.name}=1").endswith(f"; {hint}")
    assert refusal(**{f"MESOS_{flag.name.upper()}": "1"}).startswith(f"MESOS_{flag.name.upper()}")


def test_the_hints_of_what_is_never_served() -> None:
    assert refusal("--hadoop_home=/opt/hadoop") == (
        "--hadoop_home is not served here; "
        "register a fetcher for hdfs:// through the entry point group `mesocosm.fetchers`"
    )
    assert "Python entry points" in refusal("--modules={}")
    assert refusal("--appc_store_dir=/appc") == (
        "--appc_store_dir is not served here: there is no appc/runtime: appc was given up in 2016, and nothing makes"
        " such images any more; use an image of Docker or OCI"
    )
    for isolator, name in {
        "gpu/nvidia": "nvidia_gpu_devices",
        "network/port_mapping": "egress_burst",
        "volume/csi": "disk_profile_adaptor",
    }.items():
        reason, instead = REFUSED[isolator]
        assert refusal(f"--{name}=1") == f"--{name} is not served here: there is no {isolator}: {reason}; {instead}"
    assert refusal("--qos_controller=x") == "--qos_controller: nothing serves this flag yet; remove it"
    assert "modules of Mesos are not loaded" in refusal("--master_detector=org_etcd")


def test_the_support_of_systemd_can_be_turned_off_as_nothing_else_is_served() -> None:
    assert not loaded("--no-systemd_enable_support").agent.systemd_enable_support
    assert not loaded(MESOS_SYSTEMD_ENABLE_SUPPORT="false").agent.systemd_enable_support
    assert refusal("--systemd_enable_support") == (
        "--systemd_enable_support is not served here: containers are in no slice of systemd's; write"
        " --no-systemd_enable_support, and KillMode=process in the unit, lest they end with the agent"
    )


# The environment.


def test_variables_set_flags() -> None:
    result = load([], {"MESOS_WORK_DIR": "/a", "MESOS_gc_delay": "1days", "MESOS_STRICT": "0", "MESOS_NO_QUIET": ""})
    assert result.containerizer.work_dir == Path("/a")
    assert (result.agent.gc_delay, result.agent.strict, result.agent.quiet) == (86400.0, False, False)


def test_the_command_line_goes_before_the_environment() -> None:
    environment = {"MESOS_PORT": "none", "MESOS_STRICT": "false", "MESOS_HOSTNAME": "other"}
    result = loaded("--port=1", "--strict", **environment)
    assert (result.agent.port, result.agent.strict, result.agent.hostname) == (1, True, "other")


def test_other_variables_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    environment = {
        "MESOS_SANDBOX": "/mnt",
        "MESOS_WROK_DIR": "/x",
        "LIBPROCESS_IP": "::1",
        "PORT": "1",
        "WORK_DIR": "/",
    }
    assert loaded(**environment) == loaded()
    assert "MESOS_WROK_DIR" in caplog.text


def test_a_bad_variable_is_named() -> None:
    assert refusal(MESOS_PORT="http") == "MESOS_PORT: 'http' is no whole number from 0 to 65535"


# Files.


def test_a_file_has_the_value(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("7MB\n")
    result = loaded(f"--fetcher_cache_size=file://{tmp_path}/value")
    assert (result.agent.fetcher_cache_size, result.texts["fetcher_cache_size"]) == (7 << 20, "7MB")


def test_a_file_has_a_path_as_in_mesos(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("/from/file\n")
    assert load([f"--work_dir=file://{tmp_path}/value"], {}).containerizer.work_dir == Path("/from/file")


def test_a_file_of_json(tmp_path: Path) -> None:
    (tmp_path / "acls").write_text('{\n  "permissive": false\n}\n')
    result = loaded(f"--acls=file://{tmp_path}/acls")
    assert (result.agent.acls, result.texts["acls"]) == ({"permissive": False}, '{"permissive":false}')
    assert not result.warnings
    old = loaded(f"--acls={tmp_path}/acls")
    assert old.agent == result.agent
    assert old.warnings == (f"--acls: a path alone is deprecated; write file://{tmp_path}/acls",)


@pytest.mark.parametrize("form", ["file://{}", "{}"])
def test_credentials_are_a_file(tmp_path: Path, form: str) -> None:
    text = form.format(tmp_path / "credentials")
    result = loaded(f"--http_credentials={text}", "--authenticate_http_readonly")
    assert result.agent.http_credentials == tmp_path / "credentials"


@pytest.mark.parametrize(
    ("file", "reason"),
    [("none", "No such file or directory"), ("", "Is a directory"), ("bytes", "'utf-8' codec"), ("\0", "null byte")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, file: str, reason: str) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")
    assert reason in refusal(f"--hostname=file://{tmp_path}/{file}")


def test_a_path_out_of_a_file_has_no_nul(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("/a\0")
    for name in ("log_dir", "sandbox_directory"):
        assert refusal(f"--{name}=file://{tmp_path}/value").startswith(f"--{name}: ")


# Old spellings.


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("slave_subsystems", "agent_subsystems"),
        ("allowed_capabilities", "effective_capabilities"),
        ("executor_secret_key", "jwt_secret_key"),
        ("check_slave_port_range_only", "check_agent_port_range_only"),
    ],
)
def test_old_names_mean_the_new_ones(old: str, new: str) -> None:
    assert SPELLINGS[old] == new


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--disallow_sharing_slave_pid_namespace"], {}),
        ([], {"MESOS_DISALLOW_SHARING_SLAVE_PID_NAMESPACE": "true"}),
    ],
)
def test_an_old_name_works_and_says_so_once(arguments: list[str], environment: Mapping[str, str]) -> None:
    result = loaded("--isolation=filesystem/linux,namespaces/pid", *arguments, **environment)
    assert result.containerizer.disallow_sharing_agent_pid_namespace
    assert result.texts["disallow_sharing_agent_pid_namespace"] == "true"
    [warning] = result.warnings
    assert warning.endswith(" is deprecated; write --disallow_sharing_agent_pid_namespace")


def test_the_old_and_the_new_name_are_one_flag() -> None:
    old, new = "--disallow_sharing_slave_pid_namespace", "--disallow_sharing_agent_pid_namespace"
    assert f"is given twice, by {old} and {new}" in refusal(old, new)


@pytest.mark.parametrize(
    ("isolation", "expected", "old"),
    [
        ("process", "posix/cpu,posix/mem", ["process"]),
        ("cgroups,posix/disk", "cgroups/cpu,cgroups/mem,disk/du", ["cgroups", "posix/disk"]),
        ("process, posix/mem", "posix/cpu,posix/mem", ["process"]),
        ("process,process", "posix/cpu,posix/mem", ["process"]),
        ("posix/cpu,posix/cpu", "posix/cpu,posix/cpu", []),
    ],
)
def test_old_names_of_isolators(isolation: str, expected: str, old: list[str]) -> None:
    result = loaded(f"--isolation={isolation}")
    assert result.containerizer.isolation == expected
    assert result.texts["isolation"] == isolation
    assert [warning.split("'")[1] for warning in result.warnings] == old


# What goes together.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--authenticate_http_readonly"], "--authenticate_http_readonly needs --http_credentials"),
        (["--authenticate_http_readwrite"], "--authenticate_http_readwrite needs --http_credentials"),
        (["--authorizer=mine"], "--authorizer: 'mine' is not possible; write local"),
        (["--logrotate_stdout_count=3"], "--logrotate_stdout_count needs --container_logger=logrotate"),
        (["--runtime_dir=/agent/"], "--work_dir and --runtime_dir are both '/agent'"),
        (["--fetcher_cache_dir=/agent"], "--fetcher_cache_dir, '/agent', has --work_dir in it"),
        (["--fetcher_cache_dir=/var", "--log_dir=/var/log"], "--fetcher_cache_dir, '/var', has --"),
    ],
)
def test_what_cannot_work_together(arguments: list[str], message: str) -> None:
    assert refusal(*arguments).startswith(message)


def test_the_flags_of_the_logger_that_rotates() -> None:
    result = loaded("--container_logger=logrotate", "--logrotate_stdout_count=3", "--logrotate_max_stderr_size=1MB")
    assert (result.agent.logrotate_stdout_count, result.agent.logrotate_max_stderr_size) == (3, 1 << 20)


@pytest.mark.parametrize(
    ("arguments", "warnings"),
    [
        (["--cgroups_enable_cfs"], ["--cgroups_enable_cfs has no effect; add cgroups/cpu to --isolation"]),
        (["--cgroups_enable_cfs", "--isolation=cgroups/cpu"], []),
        (["--cgroups_enable_cfs", "--isolation=cgroups/all"], []),
        (["--no-cgroups_enable_cfs"], []),
        (["--cgroups_root=other"], []),
    ],
)
def test_a_flag_without_the_isolator_that_serves_it(arguments: list[str], warnings: list[str]) -> None:
    assert list(loaded(*arguments).warnings) == warnings


# Questions.


@pytest.mark.parametrize(
    ("arguments", "environment", "answer"),
    [
        ([], {}, None),
        (["--help"], {}, "help"),
        (["-h"], {}, "help"),
        (["--no-such", "stray", "--help=true"], {}, "help"),
        (["--version", "--port=http"], {}, "version"),
        (["--help=false", "--version"], {}, "version"),
        (["--no-help"], {}, None),
        (["--work_dir=--help"], {}, None),
        ([], {"MESOS_VERSION": "1"}, "version"),
    ],
)
def test_what_is_asked(arguments: list[str], environment: Mapping[str, str], answer: str | None) -> None:
    assert asked(arguments, environment) == answer


# Anything at all.

NAMES_OF_FLAGS = st.sampled_from(sorted(SPELLINGS)) | st.text(max_size=8)
ARGUMENTS = st.builds(
    lambda dashes, name, equals, text: dashes + name + equals + text,
    st.sampled_from(["--", "--no-", "--no_", "-", ""]),
    NAMES_OF_FLAGS,
    st.sampled_from(["=", ""]),
    st.text() | st.sampled_from(["true", "1days", "2GB", "{}", '{"a":[1]}', "/x", "5051", "file:///none"]),
)
VARIABLES = st.dictionaries(st.builds("MESOS_{}".format, NAMES_OF_FLAGS), st.text(), max_size=4)


@given(st.lists(ARGUMENTS, max_size=5), VARIABLES)
def test_any_command_line_is_understood_or_refused_in_one_line(
    arguments: list[str], environment: dict[str, str]
) -> None:
    asked(arguments, environment)
    try:
        result = loaded(*arguments, **environment)
    except FlagError as error:
        assert "\n" not in str(error)  # noqa: PT017 - any command line may be fine.
    else:
        assert set(result.texts) >= {name for name, flag in FLAGS.items() if flag.default is not None}


@given(st.sampled_from([name for name, flag in FLAGS.items() if flag.served_by is not None]), st.text())
def test_any_value_of_a_flag_is_one_or_refused(name: str, text: str) -> None:
    try:
        assert load([f"--{name}={text}"], {"MESOS_WORK_DIR": "/agent"}).texts[name] is not None
    except FlagError as error:
        assert "\n" not in str(error)  # noqa: PT017 - any text may be fine.


def test_the_secrets_of_a_default_container_are_not_shown() -> None:
    source = {"type": "SECRET", "secret": {"type": "VALUE", "value": {"data": "c2VzYW1l"}}}
    info = {"type": "MESOS", "volumes": [{"mode": "RO", "container_path": "key", "source": source}]}
    result = loaded(f"--default_container_info={json.dumps(info)}")
    assert "c2VzYW1l" not in result.texts["default_container_info"]
    assert '"container_path":"key"' in result.texts["default_container_info"]
    assert result.agent.default_container_info == info


def test_what_belongs_to_a_cluster_needs_a_master() -> None:
    for argument in ("--credential=/x", "--reconfiguration_policy=additive", "--zk_session_timeout=1secs"):
        assert refusal(argument) == f"{argument.partition('=')[0]} needs --master; add that, or remove the flag"
    assert "'kerberos' is not possible" in refusal("--master=a:1", "--authenticatee=kerberos")
    assert "more than" in refusal("--master=a:1", "--authentication_timeout_min=2mins")


def test_nobody_sees_the_password_for_zookeeper() -> None:
    flags = loaded("--master=zk://me:pa@ss@a:1,b:2/mesos")
    assert flags.agent.master == "zk://me:pa@ss@a:1,b:2/mesos"
    assert flags.texts["master"] == "zk://…@a:1,b:2/mesos"


def test_a_file_says_who_the_master_is(tmp_path: Path) -> None:
    file = tmp_path / "master"
    file.write_text("zk://a:1/mesos\n")
    assert loaded(f"--master=file://{file}").agent.master == "zk://a:1/mesos"
