"""What a URI means before anything is opened: its scheme, its name in the sandbox, and whether it is an archive."""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Iterator

from mesocosm.container import URI
from mesocosm.fetcher.base import FetchError

WEB = frozenset({"http", "https"})
LOCAL = frozenset({"", "file"})
"""The schemes of files on this machine: a path has none."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_ILLEGAL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff'\\]")
_UNUSABLE = re.compile(r"[\x00\ud800-\udfff]")
_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
_LOCAL_HOST = "localhost"


class Archive(enum.Enum):
    """How what was fetched is unpacked. Which compression a TAR has, its content tells."""

    TAR = "TAR"
    ZIP = "ZIP"
    GZIP = "GZIP"


_SUFFIXES = (
    *((suffix, Archive.TAR) for suffix in (".tar", ".tgz", ".tbz2", ".txz", ".tzst")),
    *((f".tar.{suffix}", Archive.TAR) for suffix in ("gz", "bz2", "xz", "zst")),
    (".zip", Archive.ZIP),
    (".gz", Archive.GZIP),
)


def shown(uri: str) -> str:
    """The URI for a message: without a password, and in one line."""
    return repr(_CREDENTIALS.sub("", uri.lstrip()))


@contextlib.contextmanager
def naming(uri: str) -> Iterator[None]:
    """Has every FetchError say which URI it is about."""
    try:
        yield
    except FetchError as error:
        raise FetchError(f"{shown(uri)} cannot be fetched: {error.message}", error.hint) from error


def scheme_of(uri: str) -> str:
    """The scheme in lower case; empty for a path."""
    match = _SCHEME.match(uri.lstrip())
    return match[1].lower() if match else ""


def local_path(uri: str) -> str:
    """The path that a `file` URI or a plain path names, as it stands: nothing in it is decoded. Raises FetchError."""
    text = uri.lstrip()
    path = text[len("file://") :].removeprefix(_LOCAL_HOST) if scheme_of(uri) else text
    if not path.startswith("/"):
        raise FetchError("it is no absolute path", "write /PATH or file:///PATH")
    return path


def target_of(uri: URI) -> tuple[str, ...]:
    """The directories and the name that a URI gets in the sandbox. Raises FetchError.

    Without an `output_file` it is all that follows the last slash, with the query if there is one, as in Mesos.
    """
    if _ILLEGAL.search(uri.value.lstrip()):
        raise FetchError(
            "it has a control character, a backslash or a quote", "write %5C or %27 where a server takes it"
        )
    name = _basename(uri.value)  # It has to have one also where it gets another.
    if uri.output_file is None:
        return (name,)
    if _UNUSABLE.search(uri.output_file):
        raise FetchError(f"its output_file {uri.output_file!r} is no name of a file")
    if uri.output_file.startswith("/"):
        raise FetchError(f"its output_file {uri.output_file!r} is not relative", "give a path in the sandbox")
    parts = inside(uri.output_file)
    if not parts or uri.output_file.endswith(("/", "/.")):
        raise FetchError(f"its output_file {uri.output_file!r} names no file")
    return parts


def inside(path: str) -> tuple[str, ...]:
    """The parts of a path below some directory, also if it has a leading slash. Raises FetchError if it leads out."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise FetchError(f"{path!r} has '..' in it, which leads out")
    if "\0" in path:
        raise FetchError(f"{path!r} is no name of a file")
    return parts


def archive_of(uri: URI) -> Archive | None:
    """What is to be unpacked once the URI is fetched; None if it stays as it is."""
    if uri.executable or not uri.extract:
        return None
    name = target_of(uri)[-1]
    return next((kind for suffix, kind in _SUFFIXES if name.endswith(suffix) and name != suffix), None)


def _basename(uri: str) -> str:
    text = uri.lstrip()
    if match := _SCHEME.match(text):
        _, slash, path = text[match.end() :].partition("/")
        if not slash or not path:
            raise FetchError("it has no path", "write SCHEME://HOST/PATH")
    else:
        path = text
    name = path.rpartition("/")[2]
    if name in ("", ".", ".."):
        raise FetchError("it names no file", "end it with a name")
    return name
