"""Who gets in: credentials files, and the header of a request."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path

import pytest

from mesocosm.agent.authentication import (
    Authenticator,
    Credential,
    Realm,
    Unauthorized,
    load_credential,
    load_credentials,
)
from mesocosm.errors import FlagError

YODA = Credential("yoda", "usetheforce")
SECRET = "usetheforce"


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "credentials"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def authenticator() -> Authenticator:
    return Authenticator([YODA, Credential("lüke", "a:b ü")], [Realm.READ_ONLY, Realm.READ_WRITE])


@pytest.mark.parametrize(
    ("header", "principal"),
    [
        (basic("yoda:usetheforce"), "yoda"),
        (basic("lüke:a:b ü"), "lüke"),
        (basic("yoda:usetheforce").replace("Basic", "bAsIc"), "yoda"),
    ],
)
def test_valid_credentials(authenticator: Authenticator, header: str, principal: str) -> None:
    assert authenticator.authenticate(Realm.READ_WRITE, header) == principal


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Basic %%%",
        "Basic =",
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        basic("yoda"),
        basic(":"),
        basic(""),
        basic("yoda:"),
        basic("yoda:UseTheForce"),
        basic("yoda:usetheforce "),
        basic("vader:usetheforce"),
        basic("yoda:usetheforce") + "x",
        basic("yoda:usetheforce").replace("Basic", "Bearer"),
    ],
)
def test_invalid_credentials(authenticator: Authenticator, header: str | None) -> None:
    with pytest.raises(Unauthorized) as refused:
        authenticator.authenticate(Realm.READ_ONLY, header)
    assert refused.value.challenge == 'Basic realm="mesos-agent-readonly"'
    assert SECRET not in str(refused.value)


def test_realms_are_authenticated_each_for_itself() -> None:
    authenticator = Authenticator([YODA], [Realm.READ_WRITE])
    assert authenticator.authenticate(Realm.READ_ONLY, None) is None
    assert authenticator.authenticate(Realm.READ_ONLY, basic("yoda:wrong")) is None
    with pytest.raises(Unauthorized) as refused:
        authenticator.authenticate(Realm.READ_WRITE, None)
    assert refused.value.challenge == 'Basic realm="mesos-agent-readwrite"'


def test_nobody_could_get_in() -> None:
    with pytest.raises(FlagError, match=r"^--authenticate_http_readonly: there are no credentials"):
        Authenticator([], [Realm.READ_ONLY])
    assert Authenticator().authenticate(Realm.READ_WRITE, None) is None


def test_a_secret_is_not_shown() -> None:
    assert SECRET not in repr(YODA)
    assert SECRET not in str(vars(Authenticator([YODA], [Realm.READ_ONLY])))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"credentials": [{"principal": "yoda", "secret": SECRET}, {"principal": "han", "secret": "s p"}]}),
        "  \n"
        + json.dumps({"credentials": [{"principal": "yoda", "secret": SECRET}, {"principal": "han", "secret": "s p"}]}),
    ],
)
def test_json(tmp_path: Path, text: str) -> None:
    assert load_credentials(file(tmp_path, text)) == (YODA, Credential("han", "s p"))


def test_lines(tmp_path: Path) -> None:
    path = file(tmp_path, "yoda usetheforce\n\n  han\tsolo  \n")
    assert load_credentials(path) == (YODA, Credential("han", "solo"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no credentials"),
        ("{}", "there is no list 'credentials'"),
        ('{"credentials": {}}', "there is no list 'credentials'"),
        ('{"credentials": []}', "has no credentials"),
        ('{"credentials": [\n{"principal": "yoda" "secret": "usetheforce"}]}', "line 2, column 22: Expecting"),
        ('{"credentials": ["usetheforce"]}', r"credentials\[0\] is no credential"),
        ('{"credentials": [{"principal": "usetheforce"}]}', r"credentials\[0\] is no credential"),
        ('{"credentials": [{"principal": "a", "secret": 7}]}', r"credentials\[0\] is no credential"),
        ('{"credentials": [{"principal": "a", "secret": ""}]}', r"credentials\[0\] is no credential"),
        ('{"credentials": [{"principal": "a:b", "secret": "usetheforce"}]}', "without a colon"),
        ("yoda usetheforce\nyoda usetheforce", "line 2 is the second one for 'yoda'"),
        ("yoda usetheforce and more", "line 1 is no credential"),
        ("usetheforce", "line 1 is no credential"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, complaint: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(FlagError, match=complaint) as refused:
        load_credentials(path)
    assert str(refused.value).startswith(f"--http_credentials: {path}")
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FlagError, match="missing: No such file"):
        load_credentials(tmp_path / "missing")
    with pytest.raises(FlagError, match="Is a directory"):
        load_credentials(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(FlagError, match="is no text"):
        load_credentials(tmp_path / "binary")


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_a_file_that_others_can_read(tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool) -> None:
    path = file(tmp_path, "yoda usetheforce", mode)
    with caplog.at_level(logging.WARNING):
        load_credentials(path)
    expected = f"--http_credentials: {path} has the mode {mode:o}, and secrets in it; `chmod o= {path}`"
    assert caplog.messages == ([expected] if warned else [])


@pytest.mark.parametrize(
    "text", ["yoda usetheforce", "\nyoda\tusetheforce\n", '{"principal": "yoda", "secret": "usetheforce"}']
)
def test_the_credential_of_the_agent(tmp_path: Path, text: str) -> None:
    assert load_credential(file(tmp_path, text)) == YODA


@pytest.mark.parametrize(
    "text", ["", "usetheforce", "a usetheforce\nb usetheforce", "{}", '{"principal": "usetheforce", "secret": 7}']
)
def test_what_is_no_credential(tmp_path: Path, text: str) -> None:
    with pytest.raises(FlagError, match=r"--credential: .* this is no credential") as refused:
        load_credential(file(tmp_path, text))
    assert SECRET not in str(refused.value)
