"""What a URI is called in the sandbox, and what is refused before anything is opened."""

from __future__ import annotations

import pytest

from mesocosm.container import URI
from mesocosm.fetcher.base import FetchError
from mesocosm.fetcher.names import Archive, archive_of, inside, local_path, scheme_of, shown, target_of


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("http://host/name", "name"),
        ("http://host/a/b/name.tar.gz", "name.tar.gz"),
        ("http://host/name?key=value", "name?key=value"),
        ("http://host/name?path=a/b", "b"),
        ("http://host/a%20b#part", "a%20b#part"),
        ("\r\n\t http://host/name", "name"),
        ("hdfs://host:9000/dir/name", "name"),
        ("file:///dir/name", "name"),
        ("file://localhost/dir/name", "name"),
        ("/dir/name", "name"),
        ("name", "name"),
        ("/a://b/name", "name"),
    ],
)
def test_the_name_is_what_follows_the_last_slash(uri: str, name: str) -> None:
    assert target_of(URI(uri)) == (name,)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("lala://nopath", "no path"),
        ("http://host/", "no path"),
        ("http://host/dir/", "names no file"),
        ("http://host/dir/..", "names no file"),
        ("/dir/.", "names no file"),
        ("/", "names no file"),
        ("", "names no file"),
        ("http://host/it's", "quote"),
        ("http://host/back\\slash", "backslash"),
        ("http://host/nul\0", "control"),
        ("http://host/new\nline", "control"),
        ("http://host/\udcff", "control"),
    ],
)
def test_what_has_no_name(uri: str, reason: str) -> None:
    with pytest.raises(FetchError, match=reason):
        target_of(URI(uri))


@pytest.mark.parametrize(
    ("output", "parts"), [("custom", ("custom",)), ("sub/dir/custom", ("sub", "dir", "custom")), ("./a//b", ("a", "b"))]
)
def test_the_output_file_has_the_last_word(output: str, parts: tuple[str, ...]) -> None:
    assert target_of(URI("http://host/name", output_file=output)) == parts


@pytest.mark.parametrize(
    "output", ["", "/subdir/custom.txt", "..", "a/../../b", "dir/", "dir/.", ".", "a\0b", "\udcff"]
)
def test_output_files_that_cannot_be(output: str) -> None:
    with pytest.raises(FetchError):
        target_of(URI("http://host/name", output_file=output))


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/dir/name", "/dir/name"),
        ("  /dir/name", "/dir/name"),
        ("file:///dir/name", "/dir/name"),
        ("FILE:///dir/name", "/dir/name"),
        ("file://localhost/dir/name", "/dir/name"),
        ("file:///dir/a%20b", "/dir/a%20b"),
    ],
)
def test_local_paths(uri: str, path: str) -> None:
    assert local_path(uri) == path


@pytest.mark.parametrize("uri", ["name", "dir/name", "./name", "file://host/name", "file:/name", "file://name"])
def test_relative_paths_are_refused(uri: str) -> None:
    with pytest.raises(FetchError, match="absolute") as caught:
        local_path(uri)
    assert caught.value.hint == "write /PATH or file:///PATH"


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [("HTTPS://host/x", "https"), ("s3n://bucket/x", "s3n"), ("/a://b", ""), ("c://x", ""), ("x", "")],
)
def test_schemes(uri: str, scheme: str) -> None:
    assert scheme_of(uri) == scheme


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((f"x.tar{end}", Archive.TAR) for end in ("", ".gz", ".bz2", ".xz", ".zst")),
        *((f"x.{end}", Archive.TAR) for end in ("tgz", "tbz2", "txz", "tzst")),
        ("x.zip", Archive.ZIP),
        ("x.gz", Archive.GZIP),
        ("x.TAR", None),
        ("x.bz2", None),
        (".gz", None),
        ("x.tar.gz?a=b", None),
        ("x", None),
    ],
)
def test_archives_are_known_by_their_name(name: str, kind: Archive | None) -> None:
    uri = URI(f"http://host/{name}")
    assert archive_of(uri) is kind
    assert archive_of(URI("http://host/x", output_file=f"dir/{name}")) is kind
    assert archive_of(URI(uri.value, extract=False)) is None
    assert archive_of(URI(uri.value, executable=True)) is None


@pytest.mark.parametrize(("path", "parts"), [("/a/b", ("a", "b")), ("./a/./b/", ("a", "b")), ("./", ())])
def test_paths_inside(path: str, parts: tuple[str, ...]) -> None:
    assert inside(path) == parts


@pytest.mark.parametrize("path", ["..", "a/..", "../a", "/../a", "a/../b", "a\0b"])
def test_paths_that_lead_out(path: str) -> None:
    with pytest.raises(FetchError):
        inside(path)


def test_passwords_are_not_shown() -> None:
    assert shown(" http://me:secret@host/x@y") == "'http://host/x@y'"
    assert shown("http://host/new\nline") == r"'http://host/new\nline'"
