"""Where files come from: this machine, the web, and what entry points know."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import os
import ssl
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from typing import BinaryIO, Protocol

from mesocosm.fetcher.base import ENTRY_POINTS, FetchError, SchemeFetcher, reason_of
from mesocosm.fetcher.names import LOCAL, WEB, local_path, naming, scheme_of
from mesocosm.version import __version__

_CHUNK = 1 << 20
_PROGRESS_SECONDS = 10.0
_OK = 200
_HADOOP = frozenset({"hdfs", "hftp", "s3", "s3a", "s3n"})
_SAFE = "!#$%&'()*+,/:;=?@[]~"
"""What has a meaning in a URL, or is encoded already."""


class Source(Protocol):
    """An opened URI. `size` is in bytes, None if it is not known. Methods raise FetchError for what goes wrong."""

    size: int | None

    def write_to(self, target: BinaryIO, tell: Callable[[str], None]) -> None:
        """Writes all of it to `target`. Raises OSError if that cannot be written; `tell` is told how far it is."""

    def close(self) -> None:
        """Lets go of it."""


class Sources:
    """Opens `uris`. All that this takes is loaded when it is made."""

    def __init__(self, uris: Iterable[str], stall_timeout: float) -> None:
        """Raises FetchError for a scheme that nobody fetches."""
        self._openers: dict[str, Callable[[str], Source]] = {}
        for uri in uris:
            if (scheme := scheme_of(uri)) not in self._openers:
                with naming(uri):
                    self._openers[scheme] = _opener(scheme, stall_timeout)

    def open(self, uri: str) -> Source:
        """Opens one of them. Raises FetchError."""
        return self._openers[scheme_of(uri)](uri.lstrip())


def _opener(scheme: str, stall_timeout: float) -> Callable[[str], Source]:
    if scheme in LOCAL:
        return _open_local
    if scheme in WEB:
        return _Web(stall_timeout).open
    return functools.partial(_Other, _load(scheme))


class _Stream:
    """A file or a response: bytes to read, and how many are to come."""

    def __init__(self, read: Callable[[int], bytes], close: Callable[[], None], size: int | None) -> None:
        self.size = size
        self.close = close
        self._read = read

    def write_to(self, target: BinaryIO, tell: Callable[[str], None]) -> None:
        done, told = 0, time.monotonic()
        expected = "" if self.size is None else f" of {self.size}"
        while chunk := self._read(_CHUNK):
            done += len(chunk)
            if self.size is not None and done > self.size:
                raise FetchError(f"it has more than the {self.size} bytes that it had when it was opened")
            target.write(chunk)
            if time.monotonic() - told >= _PROGRESS_SECONDS:
                told = time.monotonic()
                tell(f"{done}{expected} bytes")
        if self.size is not None and done < self.size:
            raise FetchError(f"it ended after {done}{expected} bytes")


class _Other:
    """A URI of a scheme that an entry point knows. How large it is, that does not tell."""

    size: int | None = None

    def __init__(self, fetcher: SchemeFetcher, uri: str) -> None:
        self._fetcher = fetcher
        self._uri = uri

    def write_to(self, target: BinaryIO, tell: Callable[[str], None]) -> None:
        del tell
        try:
            self._fetcher.fetch(self._uri, target.fileno())
        except FetchError:
            raise
        except Exception as error:
            raise FetchError(reason_of(error)) from error
        target.seek(0, os.SEEK_END)

    def close(self) -> None:
        pass


def _open_local(uri: str) -> _Stream:
    path = local_path(uri)
    # Not to wait for a writer, should it be a fifo, nor to get a terminal.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise FetchError(f"the user {os.geteuid()} cannot read it: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FetchError("it is no regular file", "fetch an archive of a directory")
    file = open(descriptor, "rb", buffering=0)  # noqa: SIM115 - the stream closes it.
    return _Stream(file.read, file.close, status.st_size or None)  # Files of /proc have no size.


class _Web:
    """Opens http and https URIs: by proxies if the environment has some, over redirects, with certificates checked."""

    def __init__(self, stall_timeout: float) -> None:
        self._timeout = stall_timeout
        self._opener = urllib.request.OpenerDirector()
        # Those of build_opener(), but for the ones of schemes that a server must not redirect to.
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=ssl.create_default_context()),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            self._opener.add_handler(handler)

    def open(self, uri: str) -> _Stream:
        with self._failures():
            response = self._opener.open(_request(uri), timeout=self._timeout)
        assert isinstance(response, http.client.HTTPResponse)
        if response.status != _OK:
            response.close()
            raise FetchError(f"the server answered {response.status} {response.reason}")
        length = response.length  # None if the server does not say, or sends it in chunks.

        def read(size: int) -> bytes:
            with self._failures():
                return response.read(size)

        return _Stream(read, response.close, length or None)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Turns whatever goes wrong into a FetchError."""
        try:
            yield
        except urllib.error.HTTPError as error:
            error.close()
            raise FetchError(f"the server answered {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            raise self._failure(error.reason) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._failure(error) from error

    def _failure(self, reason: object) -> FetchError:
        if isinstance(reason, TimeoutError):
            return FetchError(
                f"nothing came from the server for {self._timeout:g} s",
                "--fetcher_stall_timeout is how long it may take",
            )
        if isinstance(reason, http.client.IncompleteRead):
            return FetchError("the server closed the connection in the middle")
        text = reason_of(reason) if isinstance(reason, Exception) else str(reason)
        return FetchError(f"the server cannot be asked: {text}")


def _request(uri: str) -> urllib.request.Request:
    """The request for a URI. A name and a password in it are sent to its host, and to none that it redirects to."""
    parts = urllib.parse.urlsplit(uri)
    user, at, host = parts.netloc.rpartition("@")
    path, query = (urllib.parse.quote(text, safe=_SAFE) for text in (parts.path, parts.query))
    request = urllib.request.Request(
        urllib.parse.urlunsplit((parts.scheme, host, path, query, "")),
        headers={"User-Agent": f"mesocosm/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"},
    )
    if at:
        token = base64.b64encode(urllib.parse.unquote_to_bytes(user)).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _load(scheme: str) -> SchemeFetcher:
    for entry in entry_points(group=ENTRY_POINTS, name=scheme):
        try:
            fetcher: SchemeFetcher = entry.load()()
        except Exception as error:
            raise FetchError(f"the entry point {scheme!r}, {entry.value}, cannot be loaded: {error}") from error
        if callable(getattr(fetcher, "fetch", None)):
            return fetcher
        raise FetchError(f"the entry point {scheme!r}, {entry.value}, has no method `fetch`")
    hint = f"install a package with an entry point {scheme!r} in the group {ENTRY_POINTS}"
    if scheme in _HADOOP:
        hint = f"there is no --hadoop_home here: {hint}"
    raise FetchError(f"nothing here fetches the scheme {scheme!r}", hint)
