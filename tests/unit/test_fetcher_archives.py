"""Archives: what is in them comes out as it was, and nothing of a hostile one gets out of the directory."""

from __future__ import annotations

import base64
import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mesocosm.fetcher.archives import extract
from mesocosm.fetcher.base import FetchError
from mesocosm.fetcher.names import Archive
from mesocosm.fetcher.tree import Tree
from tests.fetching import names

TIME = 1_000_000_000
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


class Place:
    """A directory to unpack into, and one beside it that nothing may get into."""

    def __init__(self, root: Path) -> None:
        self.inside, self.outside = root / "inside", root / "outside"
        self.inside.mkdir()
        self.outside.mkdir()
        (self.outside / "victim").write_text("victim")
        self._before = self._seen_outside()

    def unpack(self, archive: bytes, kind: Archive = Archive.TAR, name: str = "name.gz") -> int:
        descriptor = os.open(self.inside, os.O_RDONLY)
        try:
            return extract(io.BytesIO(archive), kind, name, Tree(descriptor))
        finally:
            os.close(descriptor)

    def unharmed(self) -> bool:
        return self._seen_outside() == self._before and names(self.inside.parent) == ["inside", "outside"]

    def mode(self, name: str) -> int:
        return stat.S_IMODE((self.inside / name).lstat().st_mode)

    def _seen_outside(self) -> object:
        victim = self.outside / "victim"
        status = victim.stat()
        return (
            names(self.outside),
            victim.read_text(),
            status.st_mode,
            status.st_nlink,
            self.outside.stat().st_mode,
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    assert place.unharmed()


def member(name: str, content: bytes | None = None, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.mtime = TIME
    info.size = len(content or b"")
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content or b""


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: object) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.SYMTYPE, linkname=str(target))


def hardlink(name: str, target: object) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.LNKTYPE, linkname=str(target))


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(*members: tuple[str, bytes, int]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name, (2001, 9, 9, 1, 46, 40))
            info.external_attr = mode << 16 | 0x20  # DOS's archive bit; without any, Python makes some up.
            archive.writestr(info, content)
    return file.getvalue()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_tar_with_every_compression(place: Place, compression: str) -> None:
    archive = tar(
        directory("./"),
        directory("dir", 0o700),
        member("dir/run", b"#!/bin/sh\n", mode=0o755),
        member("top", b"x" * 3_000_000),
        symlink("dir/link", "run"),
        hardlink("dir/same", "dir/run"),
        member("dir/empty", b""),
    )
    assert place.unpack(COMPRESSIONS[compression](archive)) == 7
    inside = place.inside
    assert (inside / "dir/run").read_bytes() == b"#!/bin/sh\n"
    assert [place.mode(name) for name in ("dir", "dir/run", "top")] == [0o700, 0o755, 0o644]
    assert (inside / "top").stat().st_size == 3_000_000
    assert (inside / "dir/link").readlink() == Path("run")
    assert (inside / "dir/same").samefile(inside / "dir/run")
    assert [(inside / name).stat().st_mtime for name in ("dir", "dir/run", "top")] == [TIME] * 3
    assert (inside / "dir/empty").read_bytes() == b""


def test_more_than_one_frame_or_stream(place: Place) -> None:
    archive = tar(member("a", b"x" * 100_000), member("b", b"y" * 100_000))
    for compress in COMPRESSIONS.values():
        assert place.unpack(compress(archive[:77777]) + compress(archive[77777:])) == 2


@pytest.mark.parametrize("mode", [0o7777, 0o4755, 0o2777, 0o1666])
def test_modes_are_cut(place: Place, mode: int) -> None:
    place.unpack(tar(member("file", b"", mode=mode), directory("dir", mode)))
    assert [place.mode(name) for name in ("file", "dir")] == [mode & 0o755] * 2


def test_a_directory_that_is_to_be_read_only_is_filled_first(place: Place) -> None:
    place.unpack(tar(directory("dir", 0o555), directory("dir/sub", 0o500), member("dir/sub/file", b"x")))
    assert [place.mode(name) for name in ("dir", "dir/sub")] == [0o555, 0o500]
    assert (place.inside / "dir/sub/file").read_bytes() == b"x"
    (place.inside / "dir").chmod(0o755)


def test_the_mode_of_the_directory_itself_stays(place: Place) -> None:
    before = place.mode(".")
    place.unpack(tar(directory(".", 0o500), directory("./", 0o500), member("./file", b"x")))
    assert place.mode(".") == before


def test_later_members_replace_earlier_ones_and_what_was_there(place: Place) -> None:
    (place.inside / "b").write_text("old")
    place.unpack(tar(member("a", b"1"), member("a", b"2"), symlink("a", "b"), member("a", b"3"), member("b", b"4")))
    assert (place.inside / "a").read_bytes() == b"3"
    assert not (place.inside / "a").is_symlink()
    assert (place.inside / "b").read_bytes() == b"4"


def test_a_leading_slash_is_dropped(place: Place) -> None:
    place.unpack(tar(member(f"{place.outside}/new", b"x"), hardlink("/same", f"{place.outside}/new")))
    assert (place.inside / str(place.outside / "new")[1:]).read_bytes() == b"x"
    assert (place.inside / "same").read_bytes() == b"x"


def test_names_that_are_no_text(place: Place) -> None:
    place.unpack(tar(member("caf\udce9", b"x"), member("\u00e4" * 120, b"y")))
    assert (place.inside / "caf\udce9").read_bytes() == b"x"


def test_sparse_files_stay_sparse(place: Place, tmp_path: Path) -> None:
    """As GNU tar writes them: a map of what is not empty, and that."""
    data = b"begin" + b"end"
    content = b"2\n0\n5\n1000000000\n3\n".ljust(512, b"\0") + data
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "sparse",
        "GNU.sparse.realsize": "1000000003",
    }
    place.unpack(tar(member("GNUSparseFile.0/sparse", content, pax_headers=headers), member("after", b"x")))
    file = place.inside / "sparse"
    assert file.stat().st_size == 1_000_000_003
    assert file.stat().st_blocks * 512 < 1_000_000
    with file.open("rb") as opened:
        assert opened.read(6) == b"begin\0"
        opened.seek(-3, os.SEEK_END)
        assert opened.read() == b"end"
    assert (place.inside / "after").read_bytes() == b"x"


@pytest.mark.parametrize(
    "members",
    [
        [member("../outside/new", b"x")],
        [member("a/../../outside/new", b"x")],
        [directory("../outside/new")],
        [symlink("../outside/new", "victim")],
        [hardlink("mine", "../outside/victim")],
        [member("dev", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
        [member("dev", type=tarfile.BLKTYPE, devmajor=7, devminor=0)],
        [member("fifo", type=tarfile.FIFOTYPE)],
        [member("odd", type=b"Z")],
        [symlink("out", "../outside"), member("out/new", b"x")],
        [symlink("out", "../outside"), member("out/victim", b"x")],
        [symlink("out", "../outside"), directory("out", 0o777)],
        [symlink("out", "../outside"), directory("out/new")],
        [symlink("out", "../outside"), hardlink("mine", "out/victim")],
        [symlink("out", "../outside"), symlink("out/new", "x")],
        [directory("d"), symlink("d/up", ".."), symlink("d/up/out", "../outside"), member("d/up/out/new", b"x")],
        [member("a", b"x"), member("a/b", b"x")],
        [directory("d"), member("d", b"x")],
        [member(".", b"x")],
        [hardlink("a", ".")],
        [hardlink("a", "missing")],
        [directory("d"), hardlink("a", "d")],
    ],
    ids=lambda members: " ".join(f"{info.type.decode()}:{info.name}" for info, _ in members),
)
def test_what_leads_out_is_refused(place: Place, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with pytest.raises(FetchError, match="cannot be unpacked"):
        place.unpack(tar(*members))
    assert place.unharmed()


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "outside", "victim"]), min_size=1, max_size=4).map("/".join)
MEMBERS = st.lists(
    st.one_of(
        st.builds(member, NAMES, st.just(b"x"), mode=st.sampled_from([0o644, 0o7777, 0])),
        st.builds(directory, NAMES, st.sampled_from([0o755, 0o7777, 0])),
        st.builds(symlink, NAMES, NAMES),
        st.builds(hardlink, NAMES, NAMES),
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(MEMBERS)
def test_no_archive_gets_out(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        place = Place(Path(root))
        with contextlib.suppress(FetchError):
            place.unpack(tar(*members))
        assert place.unharmed()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_link_to_outside_is_replaced_and_not_written_through(place: Place) -> None:
    victim = place.outside / "victim"
    place.unpack(tar(symlink("a", victim), member("a", b"x", mode=0o777)))
    assert (place.inside / "a").read_bytes() == b"x"
    place.unpack(zipped(("b", os.fsencode(victim), stat.S_IFLNK | 0o777), ("b", b"x", 0)), Archive.ZIP)
    assert (place.inside / "b").read_bytes() == b"x"


def test_what_the_user_put_there_is_not_followed(place: Place) -> None:
    """The sandbox is his: he may have been faster."""
    (place.inside / "out").symlink_to(place.outside)
    (place.inside / "file").symlink_to(place.outside / "victim")
    (place.inside / "hard").hardlink_to(place.outside / "victim")
    os.mkfifo(place.inside / "fifo")
    for archive, kind in (
        (tar(member("out/victim", b"x")), Archive.TAR),
        (zipped(("out/victim", b"x", 0o100644)), Archive.ZIP),
    ):
        with pytest.raises(FetchError, match="'out' is a link or a file, where a directory is needed"):
            place.unpack(archive, kind)
    replaced = ("file", "hard", "fifo")
    place.unpack(tar(*(member(name, b"x", mode=0o777) for name in replaced)))
    assert [(place.inside / name).read_bytes() for name in replaced] == [b"x"] * 3
    assert (place.outside / "victim").read_text() == "victim"
    assert not (place.inside / "file").is_symlink()


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kept", [0.3, 0.95])
def test_a_tar_that_ends_too_early(place: Place, compression: str, kept: float) -> None:
    archive = COMPRESSIONS[compression](tar(member("a", os.urandom(50_000)), member("b", os.urandom(50_000))))
    with pytest.raises(FetchError, match="cannot be unpacked"):
        place.unpack(archive[: int(len(archive) * kept)][:95_000])


@pytest.mark.parametrize(
    "archive", [b"", b"no archive at all", b"\x1f\x8b", b"\x1f\x8bnonsense", b"BZhnonsense", bytes(5)]
)
def test_what_is_no_tar(place: Place, archive: bytes) -> None:
    with pytest.raises(FetchError, match="cannot be unpacked"):
        place.unpack(archive)


def test_a_damaged_header_is_not_taken_for_the_end(place: Place) -> None:
    archive = bytearray(tar(member("a", b"x"), member("b", b"y")))
    archive[1024 + 5] ^= 1
    with pytest.raises(FetchError, match="bad checksum"):
        place.unpack(bytes(archive))


def test_the_checksum_of_the_compression_counts(place: Place) -> None:
    archive = bytearray(gzip.compress(tar(member("a", b"x"))))
    archive[-8] ^= 1
    with pytest.raises(FetchError, match="CRC"):
        place.unpack(bytes(archive))


def test_gzip_alone(place: Place) -> None:
    assert place.unpack(gzip.compress(b"hello"), Archive.GZIP, "custom.gz") == 1
    assert (place.inside / "custom").read_bytes() == b"hello"
    with pytest.raises(FetchError, match=r"'plain\.gz' cannot be unpacked: Not a gzipped file"):
        place.unpack(b"hello", Archive.GZIP, "plain.gz")
    with pytest.raises(FetchError, match="cannot be unpacked"):
        place.unpack(gzip.compress(os.urandom(9999))[:-20], Archive.GZIP, "cut.gz")
    assert names(place.inside) == ["custom"], "half a file is none"


def test_zip(place: Place) -> None:
    count = place.unpack(
        zipped(
            ("dir/", b"", 0),
            ("dir/run", b"#!/bin/sh\n", stat.S_IFREG | 0o755),
            ("plain", b"x" * 3_000_000, 0),
            ("setuid", b"x", stat.S_IFREG | 0o4755),
            ("sub/dir/file", b"y", stat.S_IFREG | 0o600),
            ("link", b"dir/run", stat.S_IFLNK | 0o777),
            ("/rooted", b"z", 0),
        ),
        Archive.ZIP,
    )
    assert count == 7
    inside = place.inside
    assert [place.mode(name) for name in ("dir", "dir/run", "plain", "setuid", "sub/dir/file")] == [
        *(0o755, 0o755, 0o644, 0o755, 0o600),
    ]
    assert (inside / "link").read_bytes() == b"#!/bin/sh\n"
    assert (inside / "plain").stat().st_size == 3_000_000
    assert (inside / "rooted").read_bytes() == b"z"


HELLO = (
    "UEsDBAoAAAAAABBRc0gtOwivDAAAAAwAAAAFABwAaGVsbG9VVAkAAxAX7VYQF+1WdXgLAAEE6AMAAARkAAAAaGVsbG8gd29ybGQKUEsBAh4DCgAA"
    "AAAAEFFzSC07CK8MAAAADAAAAAUAGAAAAAAAAQAAAKSBAAAAAGhlbGxvVVQFAAMQF+1WdXgLAAEE6AMAAARkAAAAUEsFBgAAAAABAAEASwAAAEsA"
    "AAAAAA=="
)


def test_a_zip_of_another_program_and_with_a_wrong_checksum(place: Place) -> None:
    archive = base64.b64decode(HELLO)
    place.unpack(archive, Archive.ZIP)
    assert (place.inside / "hello").read_text() == "hello world\n"
    (place.inside / "hello").unlink()
    with pytest.raises(FetchError, match="Bad CRC-32"):
        place.unpack(archive.replace(b"hello world\n", b"hello hello\n"), Archive.ZIP)
    assert not (place.inside / "hello").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_has_a_name_twice(place: Place) -> None:
    place.unpack(zipped(("A", b"1", 0), ("A", b"2", 0)), Archive.ZIP)
    assert (place.inside / "A").read_text() == "2"


@pytest.mark.parametrize(
    "members",
    [
        [("../outside/new", b"x", 0)],
        [("a/../../outside/new", b"x", 0)],
        [("../outside/new/", b"", 0)],
        [("fifo", b"", stat.S_IFIFO | 0o644)],
        [("dev", b"", stat.S_IFCHR | 0o644)],
        [("out", b"../outside", stat.S_IFLNK | 0o777), ("out/new", b"x", 0)],
        [("out", b"../outside", stat.S_IFLNK | 0o777), ("out/", b"", 0)],
        [("long", b"x" * 5000, stat.S_IFLNK | 0o777)],
        [("zero", b"a\0b", stat.S_IFLNK | 0o777)],
    ],
    ids=lambda members: " ".join(name for name, _, _ in members),
)
def test_what_leads_out_of_a_zip_is_refused(place: Place, members: list[tuple[str, bytes, int]]) -> None:
    with pytest.raises(FetchError, match="cannot be unpacked"):
        place.unpack(zipped(*members), Archive.ZIP)
    assert place.unharmed()


@pytest.mark.parametrize(
    "archive", [b"", b"no archive", zipped(("a", b"x" * 100, 0))[:-30], zipped(("a", b"x", 0))[9:]]
)
def test_what_is_no_zip(place: Place, archive: bytes) -> None:
    with pytest.raises(FetchError, match="cannot be unpacked"):
        place.unpack(archive, Archive.ZIP)


def test_a_zip_with_a_password(place: Place) -> None:
    archive = bytearray(zipped(("a", b"x", 0)))
    archive[6] |= 1
    archive[archive.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(FetchError, match="password"):
        place.unpack(bytes(archive), Archive.ZIP)
