"""What a registry says when it does not give what it was asked for, in one line for people.

Source: github.com/opencontainers/distribution-spec, "Error Codes".
"""

from __future__ import annotations

import asyncio
import email.utils
import errno
import os
import ssl
import time
from collections.abc import Mapping

import aiohttp
import msgspec

from mesocosm.images.errors import ImageError, shown

UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_MANY = 401, 403, 404, 429
SERVER_ERROR = 500
LARGEST_REFUSAL = 1 << 16
"""Bytes of an answer that says no."""
_RETRIES = 4
_FIRST_DELAY = 0.5
_LONGEST_DELAY = 60.0
"""How long a registry may have one wait, in seconds."""
_REFUSALS = {
    UNAUTHORIZED: (
        "{host} asks for credentials",
        "give them in a Docker config; some registries say so, too, of images that there are not",
    ),
    FORBIDDEN: ("{host} does not allow it", "whoever asks lacks the right to pull"),
    NOT_FOUND: ("{host} has no such image", "look at the name and the tag"),
}


class RegistryError(ImageError):
    """A registry said no, or could not be asked.

    `transient` if it may be another way soon; then `delay` is how many seconds it wants to be left alone, if it says.
    """

    def __init__(
        self, message: str, hint: str | None = None, *, transient: bool = False, delay: float | None = None
    ) -> None:
        super().__init__(message, hint)
        self.transient = transient
        self.delay = delay


class Retries:
    """Attempts to be made after others have failed, with more time between them each time."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begins anew, after an attempt that got something."""
        self._left, self._delay = _RETRIES, _FIRST_DELAY

    async def after(self, error: RegistryError) -> None:
        """Returns when it is time to try again; raises `error` if that makes no sense."""
        if not error.transient or not self._left:
            raise error
        await asyncio.sleep(self._delay if error.delay is None else error.delay)
        self._left -= 1
        self._delay *= 2


class _Refusal(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Refusals(msgspec.Struct):
    errors: tuple[_Refusal, ...] = ()


def refusal(host: str, status: int, body: bytes, headers: Mapping[str, str], *, known: bool) -> RegistryError:
    """The error for an answer that is none of success; `known` is whether there were credentials."""
    said = _said(body)
    words = f": {said}" if said else ""
    if status == TOO_MANY:
        delay = retry_after(headers)
        text = f"{host} has been asked too often{words}"
        if delay is not None and delay > _LONGEST_DELAY:
            return RegistryError(text, f"try again in {delay:.0f} s, as it says, or with credentials")
        return RegistryError(text, "try later, or with credentials", transient=True, delay=delay)
    if status >= SERVER_ERROR:
        return RegistryError(f"{host} answers {status}{words}", "it has a fault of its own", transient=True)
    if status == UNAUTHORIZED and known:
        return RegistryError(f"{host} does not accept the credentials{words}", "look at the Docker config")
    text, hint = _REFUSALS.get(status, (f"{{host}} answers {status}", None))
    return RegistryError(text.format(host=host) + words, hint)


def _said(body: bytes) -> str:
    """The errors in the body of an answer; a body of another form is for browsers."""
    try:
        errors = msgspec.json.decode(body, type=_Refusals).errors
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return shown("; ".join(error.message or error.code for error in errors if error.message or error.code))


def failure(host: str, error: Exception, patience: float) -> RegistryError:
    """The error for a connection that cannot be made, or breaks."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError | ssl.SSLError):
        reason = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
        return RegistryError(
            f"TLS with {host} fails: {_reason(reason)}",
            "a certificate authority that is not the system's is named by the environment variable SSL_CERT_FILE",
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return RegistryError(f"there is no host of the name {host}: {_reason(error.os_error)}", "look at the name")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return RegistryError(
            f"the proxy {error.host}:{error.port} cannot be reached: {_reason(error.os_error)}",
            "look at the environment variables http_proxy, https_proxy and no_proxy",
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return RegistryError(f"the proxy does not connect to {host}: {error.status} {error.message}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return RegistryError(f"{host} cannot be reached: {_reason(error.os_error)}", "is that where the registry is?")
    if isinstance(error, asyncio.TimeoutError):
        return RegistryError(f"{host} has said nothing for {patience:g} s", transient=True)
    return RegistryError(f"the connection to {host} broke: {_reason(error)}", transient=True)


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)  # Asyncio has words of its own.
    return shown((isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How many seconds to wait, as an answer says (RFC 9110, 10.2.3); None if it does not."""
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
