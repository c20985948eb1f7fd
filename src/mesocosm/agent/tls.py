"""TLS of the agent, by the `LIBPROCESS_SSL_*` variables of its environment, as in Mesos (`docs/ssl.md`).

What cannot be done as a variable says is refused: a setting for security that has no effect does harm.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mesocosm.agent.secret_file import warn_if_exposed
from mesocosm.errors import FlagError

_PREFIX = "LIBPROCESS_SSL_"

_ALIASES = {
    "VERIFY_CERT": "VERIFY_SERVER_CERT",
    "REQUIRE_CERT": "REQUIRE_CLIENT_CERT",
    "VERIFY_DEPTH": "VERIFICATION_DEPTH",
    "ECDH_CURVE": "ECDH_CURVES",
    "ENABLE_DOWNGRADE": "SUPPORT_DOWNGRADE",
}
"""Older names, and those that the documentation of Mesos has for the ones in its code."""

_INSECURE = "it is not secure (RFC 7568, RFC 8996); unset it"
_REFUSED = {
    "SUPPORT_DOWNGRADE": "a port speaks either TLS or not; unset it",
    "ENABLE_SSL_V3": _INSECURE,
    "ENABLE_TLS_V1_0": _INSECURE,
    "ENABLE_TLS_V1_1": _INSECURE,
}
"""Switches that can only be off."""

_SERVED = frozenset(
    {
        *("ENABLED", "KEY_FILE", "CERT_FILE", "CA_FILE", "CA_DIR", "CIPHERS", "ECDH_CURVES"),
        *("VERIFY_SERVER_CERT", "REQUIRE_CLIENT_CERT", "VERIFY_IPADD", "HOSTNAME_VALIDATION_SCHEME"),
        *("ENABLE_TLS_V1_2", "ENABLE_TLS_V1_3"),
    }
)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What the variables say. `ca_file` and `ca_dir` are None for the authorities that the system trusts."""

    key_file: Path
    cert_file: Path
    ca_file: Path | None
    ca_dir: Path | None
    verify_server_cert: bool
    require_client_cert: bool
    ciphers: str | None
    curve: str | None
    minimum: ssl.TLSVersion
    maximum: ssl.TLSVersion


def is_enabled(environment: Mapping[str, str]) -> bool:
    """Whether the agent speaks TLS. Raises FlagError."""
    return _switch(_values(environment), "ENABLED")


def server_context(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """How the agent serves; None without TLS. Raises FlagError for what cannot be used or served."""
    settings = _read(environment)
    if settings is None:
        return None
    context = _context(ssl.PROTOCOL_TLS_SERVER, settings)
    if settings.require_client_cert:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """How the agent connects to others of the cluster; None without TLS. Raises FlagError."""
    settings = _read(environment)
    if settings is None:
        return None
    context = _context(ssl.PROTOCOL_TLS_CLIENT, settings)
    if not settings.verify_server_cert:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _read(environment: Mapping[str, str]) -> _Settings | None:
    values = _values(environment)
    if not _switch(values, "ENABLED"):
        return None
    scheme = values.get("HOSTNAME_VALIDATION_SCHEME", "openssl")
    if scheme != "openssl":
        _refuse("HOSTNAME_VALIDATION_SCHEME", f"{scheme!r} is not served, but 'openssl'")
    # What it asks for, a check of the address where one connects to that, is always done.
    _switch(values, "VERIFY_IPADD")
    versions = [
        version
        for name, version in (("ENABLE_TLS_V1_2", ssl.TLSVersion.TLSv1_2), ("ENABLE_TLS_V1_3", ssl.TLSVersion.TLSv1_3))
        if _switch(values, name, default=True)
    ]
    if not versions:
        _refuse("ENABLE_TLS_V1_2", "with TLS 1.3 disabled, too, there is no protocol left; enable one of them")
    require_client_cert = _switch(values, "REQUIRE_CLIENT_CERT")
    return _Settings(
        key_file=_needed(values, "KEY_FILE"),
        cert_file=_needed(values, "CERT_FILE"),
        ca_file=_path(values, "CA_FILE"),
        ca_dir=_path(values, "CA_DIR"),
        verify_server_cert=_switch(values, "VERIFY_SERVER_CERT") or require_client_cert,
        require_client_cert=require_client_cert,
        ciphers=values.get("CIPHERS"),
        curve=_curve(values),
        minimum=versions[0],
        maximum=versions[-1],
    )


def _values(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by their newer names, without the prefix. Raises FlagError for those that are not served."""
    if "SSL_ENABLED" in environment and f"{_PREFIX}ENABLED" not in environment:
        raise FlagError("SSL_ENABLED is no longer a variable of Mesos", f"use {_PREFIX}ENABLED")
    values: dict[str, str] = {}
    for variable, value in sorted(environment.items()):
        if not variable.startswith(_PREFIX):
            continue
        name = variable.removeprefix(_PREFIX)
        name = _ALIASES.get(name, name)
        if values.get(name, value) != value:
            _refuse(name, "it has an older name, too, with another value; unset one of them")
        values[name] = value
    for name in values.keys() - _SERVED:
        if name == "VERIFICATION_DEPTH":
            _refuse(name, "the depth of a chain cannot be limited; unset it")
        if name not in _REFUSED:
            _refuse(name, "there is no such variable; unset it")
        if _switch(values, name):
            _refuse(name, _REFUSED[name])
    return values


def _switch(values: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    if name not in values:
        return default
    if values[name] not in ("true", "1", "false", "0"):
        _refuse(name, f"{values[name]!r} is neither true, 1, false nor 0")
    return values[name] in ("true", "1")


def _path(values: Mapping[str, str], name: str) -> Path | None:
    """The path of a file or a directory that can be read."""
    if name not in values:
        return None
    path = Path(values[name])
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        else:
            path.open("rb").close()
    except OSError as error:
        _refuse(name, f"{path}: {error.strerror}")
    if path.is_dir() != (name == "CA_DIR"):
        _refuse(name, f"{path} is {'a' if path.is_dir() else 'no'} directory")
    return path


def _needed(values: Mapping[str, str], name: str) -> Path:
    path = _path(values, name)
    if path is None:
        _refuse(name, f"it is needed, as {_PREFIX}ENABLED is set; name a file")
    return path


def _curve(values: Mapping[str, str]) -> str | None:
    """The only curve to use; None for what both sides like best."""
    curve = values.get("ECDH_CURVES", "auto")
    if ":" in curve:
        _refuse("ECDH_CURVES", f"{curve!r} is more than one; name one, or 'auto'")
    return None if curve == "auto" else curve


def _context(protocol: ssl._SSLMethod, settings: _Settings) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version, context.maximum_version = settings.minimum, settings.maximum
    _load_chain(context, settings)
    if settings.ca_file is None and settings.ca_dir is None:
        context.load_default_certs(
            ssl.Purpose.CLIENT_AUTH if protocol is ssl.PROTOCOL_TLS_SERVER else ssl.Purpose.SERVER_AUTH
        )
    else:
        try:
            context.load_verify_locations(settings.ca_file, settings.ca_dir)
        except ssl.SSLError:
            _refuse("CA_FILE", f"{settings.ca_file} has no certificate that can be read; give some in PEM")
    if settings.ciphers is not None:
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError:
            _refuse("CIPHERS", f"none of {settings.ciphers!r} is available; `openssl ciphers` lists them")
    if settings.curve is not None:
        try:
            context.set_ecdh_curve(settings.curve)
        except (ssl.SSLError, ValueError):
            _refuse("ECDH_CURVES", f"there is no curve {settings.curve!r}; `openssl ecparam -list_curves` lists them")
    return context


def _load_chain(context: ssl.SSLContext, settings: _Settings) -> None:
    key, certificate = settings.key_file, settings.cert_file

    def password() -> NoReturn:
        # Without this function, OpenSSL would ask the terminal.
        _refuse("KEY_FILE", f"{key} has a passphrase, which nobody is there to type; remove it")

    try:
        context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            _refuse("KEY_FILE", f"{key} is not the key of the certificate {certificate}")
        if error.reason is not None:
            _refuse("CERT_FILE", f"{certificate} cannot be used: {error.reason.replace('_', ' ').lower()}")
        # OpenSSL does not say which of the two it could not read.
        if _has_certificate(certificate):
            _refuse("KEY_FILE", f"{key} has no key that can be read; give one in PEM")
        _refuse("CERT_FILE", f"{certificate} has no certificate that can be read; give one in PEM")
    warn_if_exposed(key, f"{_PREFIX}KEY_FILE")


def _has_certificate(path: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return False
    return True


def _refuse(name: str, text: str) -> NoReturn:
    """Raises FlagError about a variable; what to do follows in `text` after a semicolon."""
    message, _, hint = text.partition("; ")
    raise FlagError(f"{_PREFIX}{name}: {message}", hint or None) from None
