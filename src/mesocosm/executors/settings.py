"""What an agent tells an executor: its environment (Mesos: docs/executor-http-api.md)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from mesocosm.errors import FlagError, MesocosmError
from mesocosm.executors.http import Address, Connection
from mesocosm.units import parse_duration

_RECOVERY_TIMEOUT, _BACKOFF_MAX, _SHUTDOWN_GRACE_PERIOD = 900.0, 2.0, 5.0
"""What agents say if nobody told them otherwise."""
_PATIENCE = 10.0
"""Seconds that a connection to the agent may take."""
_TLS = "LIBPROCESS_SSL_"
_TRUE = ("1", "true")


class ExecutorError(MesocosmError):
    """An executor cannot go on: it was started wrongly, or its agent does not want it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Who the executor is, and where its agent is; times are seconds.

    If the framework checkpoints, the executor waits for an agent that is gone, for `recovery_timeout`, and asks for it
    again after random times of at most `backoff_max`. Else it ends with it. Of the addresses of the `agents`, which are
    one, the first that it listens at is used.
    """

    framework_id: str
    executor_id: str
    agents: tuple[Address, ...]
    token: str | None = field(default=None, repr=False)
    checkpoint: bool = False
    recovery_timeout: float = _RECOVERY_TIMEOUT
    backoff_max: float = _BACKOFF_MAX
    shutdown_grace_period: float = _SHUTDOWN_GRACE_PERIOD

    async def connect(self) -> Connection:
        """A connection to the agent. Raises OSError."""
        *sooner, last = self.agents
        for address in sooner:
            with contextlib.suppress(OSError):
                return await Connection.open(address)
        async with asyncio.timeout(_PATIENCE):  # Else it would be minutes, where somebody drops what is sent.
            return await Connection.open(last)

    @property
    def headers(self) -> dict[str, str]:
        """Those of every request to the agent."""
        proof = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return {"Content-Type": "application/json", "Accept": "application/json", **proof}

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Settings:
        """Reads them, and takes out of `environment` what no task may know. Raises ExecutorError."""
        token = environment.pop("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", None)

        def seconds(name: str, default: float) -> float:
            try:
                return parse_duration(environment[f"MESOS_{name}"]) if f"MESOS_{name}" in environment else default
            except FlagError as error:
                raise ExecutorError(f"MESOS_{name}: {error.message}") from None

        return cls(
            framework_id=_needed(environment, "MESOS_FRAMEWORK_ID"),
            executor_id=_needed(environment, "MESOS_EXECUTOR_ID"),
            agents=_agents(environment),
            token=token,
            checkpoint=environment.get("MESOS_CHECKPOINT") == "1",
            recovery_timeout=seconds("RECOVERY_TIMEOUT", _RECOVERY_TIMEOUT),
            backoff_max=seconds("SUBSCRIPTION_BACKOFF_MAX", _BACKOFF_MAX),
            shutdown_grace_period=seconds("EXECUTOR_SHUTDOWN_GRACE_PERIOD", _SHUTDOWN_GRACE_PERIOD),
        )


def _needed(environment: MutableMapping[str, str], name: str) -> str:
    try:
        return environment[name]
    except KeyError:
        raise ExecutorError(f"there is no {name} in the environment", "executors are started by an agent") from None


def _agents(environment: MutableMapping[str, str]) -> tuple[Address, ...]:
    """Its socket if there is one, and its endpoint.

    A root directory of the container's own has the socket of the agent that launched it, and not of the next.
    """
    if "MESOS_DOMAIN_SOCKET" not in environment:
        return (_endpoint(environment),)
    local = Address(path=environment["MESOS_DOMAIN_SOCKET"])
    return (local, _endpoint(environment)) if "MESOS_AGENT_ENDPOINT" in environment else (local,)


def _endpoint(environment: MutableMapping[str, str]) -> Address:
    """A name would have to be looked up by what the container says of names: there is only an address."""
    endpoint = _needed(environment, "MESOS_AGENT_ENDPOINT")
    host, _, port = endpoint.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
        return Address(host, int(port), tls=_tls(environment))
    except ValueError:
        raise ExecutorError(f"MESOS_AGENT_ENDPOINT: {endpoint!r} is no address of IP and no port") from None


def _tls(environment: MutableMapping[str, str]) -> ssl.SSLContext | None:
    """As the variables of Mesos say (docs/ssl.md), whose files are the container's. Raises ExecutorError."""
    values = {name.removeprefix(_TLS): value for name, value in environment.items() if name.startswith(_TLS)}
    if values.get("ENABLED", "").lower() not in _TRUE:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if values.get("VERIFY_SERVER_CERT", values.get("VERIFY_CERT", "")).lower() not in _TRUE:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif "CA_FILE" in values or "CA_DIR" in values:
            context.load_verify_locations(values.get("CA_FILE"), values.get("CA_DIR"))
        else:
            context.load_default_certs()
        if "CERT_FILE" in values:
            context.load_cert_chain(values["CERT_FILE"], values.get("KEY_FILE"))
    except OSError as error:  # Of which those of TLS are.
        raise ExecutorError(f"the files of {_TLS}* cannot be used: {error}") from error
    return context
