"""TLS by LIBPROCESS_SSL_*: what is refused with which line, and who can talk to whom. Certificates are openssl's."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from mesocosm.agent.authentication import Authenticator
from mesocosm.agent.http.actors import add_actor
from mesocosm.agent.http.routes import Routes
from mesocosm.agent.http.server import Server
from mesocosm.agent.tls import client_context, server_context
from mesocosm.api import internal
from mesocosm.errors import FlagError
from mesocosm.libprocess.address import ActorAddress
from mesocosm.libprocess.inbox import Inbox
from mesocosm.libprocess.outbox import Outbox

OPENSSL = shutil.which("openssl")

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs openssl")


def openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run([OPENSSL or "", *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a certificate of it for localhost, and a foreign one of the same name."""
    directory = tmp_path_factory.mktemp("tls")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    name = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    for issuer in ("ca", "other"):
        openssl(
            "req",
            "-x509",
            *curve,
            "-keyout",
            f"{issuer}.key",
            "-out",
            f"{issuer}.pem",
            "-subj",
            f"/CN={issuer}",
            cwd=directory,
        )
    for subject, issuer in (("agent", "ca"), ("foreign", "other")):
        openssl(
            *("req", "-x509", *curve, "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", *name),
            *("-keyout", f"{subject}.key", "-out", f"{subject}.pem", "-subj", "/CN=localhost"),
            cwd=directory,
        )
    openssl("ec", "-in", "agent.key", "-aes128", "-passout", "pass:secret", "-out", "locked.key", cwd=directory)
    (directory / "rubbish").write_text("-----BEGIN nothing-----\n")
    return directory


def environment(made: Path, name: str = "agent", **more: str) -> dict[str, str]:
    values = {
        "ENABLED": "true",
        "KEY_FILE": str(made / f"{name}.key"),
        "CERT_FILE": str(made / f"{name}.pem"),
        "CA_FILE": str(made / "ca.pem"),
    }
    return {f"LIBPROCESS_SSL_{key}": value for key, value in (values | more).items()} | {"PATH": "/bin"}


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost") -> str | None:
    """The version that both speak, over memory. Raises ssl.SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    parties = [
        client.wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(10):
        for party in parties:
            try:
                party.do_handshake()
                if party.server_side:
                    party.write(b"hello")
                else:
                    assert party.read(5) == b"hello"
                    return party.version()
            except ssl.SSLWantReadError:
                pass
    raise AssertionError("the handshake does not end")


def contexts(values: dict[str, str]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server, client = server_context(values), client_context(values)
    assert server is not None
    assert client is not None
    return client, server


@pytest.mark.parametrize("values", [{}, {"LIBPROCESS_SSL_ENABLED": "false"}, {"LIBPROCESS_SSL_ENABLED": "0"}])
def test_without_tls(values: dict[str, str]) -> None:
    assert server_context(values | {"LIBPROCESS_SSL_CERT_FILE": "/nowhere"} if values else {}) is None
    assert client_context(values) is None


def test_a_connection(made: Path) -> None:
    assert shake_hands(*contexts(environment(made, VERIFY_SERVER_CERT="1"))) == "TLSv1.3"


def test_the_server_is_verified_if_asked_for(made: Path) -> None:
    _, foreign = contexts(environment(made, "foreign"))
    careless, _ = contexts(environment(made))
    careful, agent = contexts(environment(made, VERIFY_SERVER_CERT="true"))
    older_name, _ = contexts(environment(made, VERIFY_CERT="true"))
    assert shake_hands(careless, foreign)
    for client in (careful, older_name):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(client, foreign)
        with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname"):
            shake_hands(client, agent, "elsewhere.example")
    assert shake_hands(careful, agent, "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake_hands(careful, agent, "127.0.0.2")


@pytest.mark.parametrize("name", ["REQUIRE_CLIENT_CERT", "REQUIRE_CERT"])
def test_clients_are_verified_if_asked_for(made: Path, name: str) -> None:
    client, server = contexts(environment(made, **{name: "true"}))
    assert client.verify_mode is ssl.CERT_REQUIRED, "it implies the verification of servers"
    assert shake_hands(client, server)
    stranger, _ = contexts(environment(made, "foreign"))
    with pytest.raises(ssl.SSLError):
        shake_hands(stranger, server)
    nobody = ssl.create_default_context(cafile=str(made / "ca.pem"))
    with pytest.raises(ssl.SSLError):
        shake_hands(nobody, server)


def test_a_directory_of_authorities(made: Path, tmp_path: Path) -> None:
    hashed = subprocess.run(
        [OPENSSL or "", "x509", "-hash", "-noout", "-in", made / "ca.pem"], check=True, capture_output=True, text=True
    ).stdout.strip()
    shutil.copy(made / "ca.pem", tmp_path / f"{hashed}.0")
    values = environment(made, CA_DIR=str(tmp_path), VERIFY_SERVER_CERT="true")
    del values["LIBPROCESS_SSL_CA_FILE"]
    assert shake_hands(*contexts(values))


@pytest.mark.parametrize(
    ("more", "version"),
    [({"ENABLE_TLS_V1_3": "false"}, "TLSv1.2"), ({"ENABLE_TLS_V1_2": "0", "ENABLE_TLS_V1_3": "1"}, "TLSv1.3")],
)
def test_versions(made: Path, more: dict[str, str], version: str) -> None:
    _, server = contexts(environment(made, **more))
    client, _ = contexts(environment(made))
    assert shake_hands(client, server) == version
    other = {"TLSv1.2": ssl.TLSVersion.TLSv1_3, "TLSv1.3": ssl.TLSVersion.TLSv1_2}[version]
    client.minimum_version = client.maximum_version = other
    with pytest.raises(ssl.SSLError):
        shake_hands(client, server)


def test_ciphers_and_curves(made: Path) -> None:
    chosen = {"CIPHERS": "ECDHE-ECDSA-AES256-GCM-SHA384", "ENABLE_TLS_V1_3": "false"}
    _, server = contexts(environment(made, **chosen, ECDH_CURVES="secp384r1"))
    client, _ = contexts(environment(made))
    assert shake_hands(client, server) == "TLSv1.2"
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        shake_hands(client, server)
    client, _ = contexts(environment(made, ECDH_CURVE="prime256v1"))
    with pytest.raises(ssl.SSLError):
        shake_hands(client, server)
    assert shake_hands(*contexts(environment(made, ECDH_CURVES="auto", VERIFY_IPADD="true")))


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"ENABLED": "yes"}, "ENABLED: 'yes' is neither true, 1, false nor 0"),
        ({"KEY_FILE": "@/missing"}, "KEY_FILE: @/missing: No such file or directory"),
        ({"CERT_FILE": "@"}, "CERT_FILE: @ is a directory"),
        ({"CA_FILE": "@/missing"}, "CA_FILE: @/missing: No such file or directory"),
        ({"CA_DIR": "@/ca.pem"}, "CA_DIR: @/ca.pem is no directory"),
        ({"CA_FILE": "@/rubbish"}, "CA_FILE: @/rubbish has no certificate that can be read"),
        ({"CERT_FILE": "@/rubbish"}, "CERT_FILE: @/rubbish has no certificate that can be read; give one in PEM"),
        ({"KEY_FILE": "@/rubbish"}, "KEY_FILE: @/rubbish has no key that can be read; give one in PEM"),
        ({"KEY_FILE": "@/ca.key"}, "KEY_FILE: @/ca.key is not the key of the certificate @/agent.pem"),
        ({"KEY_FILE": "@/locked.key"}, "KEY_FILE: @/locked.key has a passphrase"),
        ({"SUPPORT_DOWNGRADE": "true"}, "SUPPORT_DOWNGRADE: a port speaks either TLS or not; unset it"),
        ({"ENABLE_DOWNGRADE": "1"}, "SUPPORT_DOWNGRADE: a port speaks either TLS or not"),
        ({"ENABLE_SSL_V3": "1"}, "ENABLE_SSL_V3: it is not secure"),
        ({"ENABLE_TLS_V1_0": "1"}, "ENABLE_TLS_V1_0: it is not secure"),
        ({"ENABLE_TLS_V1_1": "true"}, "ENABLE_TLS_V1_1: it is not secure"),
        ({"ENABLE_TLS_V1_2": "0", "ENABLE_TLS_V1_3": "0"}, "ENABLE_TLS_V1_2: with TLS 1.3 disabled"),
        ({"VERIFICATION_DEPTH": "4"}, "VERIFICATION_DEPTH: the depth of a chain cannot be limited"),
        ({"VERIFY_DEPTH": "4"}, "VERIFICATION_DEPTH: the depth of a chain cannot be limited"),
        ({"HOSTNAME_VALIDATION_SCHEME": "legacy"}, "HOSTNAME_VALIDATION_SCHEME: 'legacy' is not served"),
        ({"CIPHERS": "nonsense"}, "CIPHERS: none of 'nonsense' is available"),
        ({"ECDH_CURVES": "nonsense"}, "ECDH_CURVES: there is no curve 'nonsense'"),
        ({"ECDH_CURVES": "secp384r1:prime256v1"}, "ECDH_CURVES: 'secp384r1:prime256v1' is more than one"),
        ({"CERTFILE": "x"}, "CERTFILE: there is no such variable"),
        ({"REQUIRE_CERT": "0", "REQUIRE_CLIENT_CERT": "1"}, "REQUIRE_CLIENT_CERT: it has an older name, too"),
    ],
)
def test_what_is_refused(made: Path, more: dict[str, str], complaint: str) -> None:
    values = environment(made, **{name: value.replace("@", str(made)) for name, value in more.items()})
    with pytest.raises(FlagError) as refused:
        server_context(values)
    assert str(refused.value).startswith(f"LIBPROCESS_SSL_{complaint.replace('@', str(made))}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["KEY_FILE", "CERT_FILE"])
def test_a_file_that_is_needed(made: Path, name: str) -> None:
    values = environment(made)
    del values[f"LIBPROCESS_SSL_{name}"]
    with pytest.raises(FlagError, match=f"LIBPROCESS_SSL_{name}: it is needed"):
        server_context(values)


def test_what_is_off_is_not_refused(made: Path) -> None:
    off = ("SUPPORT_DOWNGRADE", "ENABLE_SSL_V3", "ENABLE_TLS_V1_0", "ENABLE_TLS_V1_1", "VERIFY_IPADD")
    assert server_context(environment(made, **dict.fromkeys(off, "false")))


def test_a_misspelt_variable_is_not_taken_for_no_tls() -> None:
    with pytest.raises(FlagError, match="LIBPROCESS_SSL_ENABLE: there is no such variable"):
        server_context({"LIBPROCESS_SSL_ENABLE": "true"})
    with pytest.raises(FlagError, match="SSL_ENABLED is no longer a variable of Mesos; use LIBPROCESS_SSL_ENABLED"):
        server_context({"SSL_ENABLED": "true"})


def test_a_key_that_others_can_read(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = tmp_path / "agent.key"
    shutil.copy(made / "agent.key", key)
    key.chmod(0o644)
    server_context(environment(made, KEY_FILE=str(key)))
    assert caplog.messages == [f"LIBPROCESS_SSL_KEY_FILE: {key} has the mode 644, and secrets in it; `chmod o= {key}`"]


async def test_messages_between_actors(made: Path) -> None:
    """One who has no certificate of the authority is not spoken to."""
    routes, inbox, received = Routes(), Inbox(), []
    inbox.receive(internal.PongSlaveMessage, lambda sender, _: received.append(sender))
    add_actor(routes, "master", inbox, lambda: True)
    sender, lost = ActorAddress("slave(1)", "127.0.0.1", 5051), []
    for name in ("agent", "foreign"):
        server = Server(routes, Authenticator())
        await server.start()
        host, port = await server.listen("127.0.0.1", 0, server_context(environment(made, name)))
        context = client_context(environment(made, VERIFY_SERVER_CERT="true"))
        outbox = Outbox(sender, lost.append, context)
        outbox.send(ActorAddress("master", host, port), internal.PongSlaveMessage())
        await outbox.flush()
        await outbox.close()
        await server.close()
    assert received == [sender]
    assert len(lost) == 1
