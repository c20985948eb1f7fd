"""Layers are unpacked with all that is in them, and nothing of a hostile one gets out of its directory."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.images.errors import DigestError, ImageError
from mesocosm.images.extraction.messages import Extract, Extracted
from mesocosm.images.extraction.worker import FollowedFile, extract
from mesocosm.linux.layers import OPAQUE
from tests.registry import call, digest, entry, tar

pytestmark = pytest.mark.kernel

DIRECTORY, SYMLINK, LINK = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.fixture
def outside(run_directory: Path) -> Path:
    """A directory beside that of the layer, which nothing may change."""
    directory = run_directory / "outside"
    directory.mkdir()
    (directory / "file").write_text("mine")
    return directory


@pytest.fixture
def root(run_directory: Path, outside: Path) -> Iterator[Path]:
    """The directory of the layer, which is looked at from the outside in the end."""
    directory = run_directory / "layer"
    directory.mkdir()
    before = {path.name for path in run_directory.iterdir()}
    yield directory
    assert {path.name for path in run_directory.iterdir()} == before
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "mine"
    assert (outside / "file").stat().st_nlink == 1
    assert stat.S_IMODE((outside / "file").stat().st_mode) == 0o644


def unpack(root: Path, data: bytes, blob: bytes | None = None, expected: str | None = None) -> Extracted:
    blob = data if blob is None else blob
    file = root.parent / "layer.tar"
    file.write_bytes(blob)
    descriptor, directory = os.open(file, os.O_RDONLY), os.open(root, os.O_RDONLY)
    file.unlink()
    try:
        job = Extract(0, len(blob), complete=True, digest=expected, diff_id=digest(data))
        return extract(FollowedFile(descriptor, job, None), directory, expected, digest(data))  # type: ignore[arg-type]
    finally:
        os.close(descriptor)
        os.close(directory)


def link(name: str, target: str, kind: bytes = SYMLINK) -> tarfile.TarInfo:
    return entry(name, kind, linkname=target)


@pytest.mark.parametrize("name", ["../outside/file", "a/../../outside/file", "..", "/../outside/file", "a/.."])
def test_names_with_dots_are_refused(root: Path, name: str) -> None:
    with pytest.raises(ImageError, match=r"has a `\.\.` in its name"):
        unpack(root, tar((entry(name), b"evil")))


def test_absolute_names_are_below_the_root(root: Path, outside: Path) -> None:
    unpack(root, tar((entry(f"{outside}/file"), b"evil")))
    assert Path(f"{root}{outside}/file").read_text() == "evil"


@pytest.mark.parametrize("target", ["../outside", "{outside}", "../../../../../../../{outside}", "up/outside"])
def test_a_link_on_the_way_is_followed_inside(root: Path, outside: Path, target: str) -> None:
    """`/` is the directory of the layer, as it will be in a container."""
    members = (
        link("up", ".."),
        entry(f"{outside}/".lstrip("/"), DIRECTORY),
        entry("outside/", DIRECTORY),
        link("way", target.format(outside=outside)),
        (entry("way/file"), b"evil"),
    )
    unpack(root, tar(*members))
    found = [
        path for path in root.rglob("file") if path.is_file() and "way" not in path.parts and "up" not in path.parts
    ]
    assert [path.read_text() for path in found] == ["evil"]


def test_a_link_in_place_of_a_file_is_replaced(root: Path, outside: Path) -> None:
    unpack(root, tar(link("name", f"{outside}/file"), (entry("name"), b"evil")))
    assert (root / "name").read_text() == "evil"


def test_a_link_in_place_of_a_directory_is_replaced(root: Path, outside: Path) -> None:
    members = (link("name", str(outside)), entry("name/", DIRECTORY, mode=0o777), (entry("name/file"), b"evil"))
    unpack(root, tar(*members))
    assert (root / "name/file").read_text() == "evil"


def test_a_directory_that_was_found_before_is_looked_up_again(root: Path, outside: Path) -> None:
    """It is a link by the time of the second file."""
    members = (
        (entry("name/first"), b""),
        link("name", str(outside)),
        (entry("name/file"), b"evil"),
    )
    unpack(root, tar(*members))
    assert Path(f"{root}{outside}/file").read_text() == "evil"


@pytest.mark.parametrize("target", ["usr/bin", "/usr/bin", "../../usr/bin", "link"])
def test_a_link_may_come_before_what_it_leads_to(root: Path, target: str) -> None:
    """Such as `bin` of today's distributions."""
    members = (
        link("bin", target),
        link("link", "usr/bin"),
        (entry("bin/sh"), b"sh"),
        entry("usr/bin/", DIRECTORY, mode=0o700),
    )
    unpack(root, tar(*members))
    assert (root / "usr/bin/sh").read_text() == "sh"
    assert stat.S_IMODE((root / "usr/bin").stat().st_mode) == 0o700


def test_links_in_a_circle_are_refused(root: Path) -> None:
    with pytest.raises((ImageError, OSError), match=r"links|symbolic links"):
        unpack(root, tar(link("a", "b"), link("b", "a"), (entry("a/file"), b"")))
    with pytest.raises(ImageError, match="'a' is a file, or a link that leads nowhere"):
        unpack(root, tar(entry("a"), (entry("a/file"), b"")))


@pytest.mark.parametrize("target", ["../outside/file", "a/../../outside/file"])
def test_a_hard_link_out_of_the_layer_is_refused(root: Path, target: str) -> None:
    with pytest.raises(ImageError, match=r"has a `\.\.` in its name, or in that of what it links to"):
        unpack(root, tar(link("name", target, LINK)))


def test_a_hard_link_by_way_of_a_link_stays_inside(root: Path, outside: Path) -> None:
    with pytest.raises(ImageError, match="'name' is a hard link to 'way/file', which is no file of the same layer"):
        unpack(root, tar(link("way", str(outside)), link("name", "way/file", LINK)))


def test_a_hard_link_to_a_link_does_not_follow_it(root: Path, outside: Path) -> None:
    unpack(root, tar(link("way", f"{outside}/file"), link("name", "way", LINK), (entry("name"), b"evil")))
    assert (root / "name").read_text() == "evil"


@pytest.mark.parametrize("target", ["", "/", ".", "directory", "absent", "absent/file"])
def test_a_hard_link_to_what_is_no_file_is_refused(root: Path, target: str) -> None:
    with pytest.raises(ImageError, match="which is no file of the same layer"):
        unpack(root, tar(entry("directory/", DIRECTORY), link("name", target or "./", LINK)))


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh..."])
def test_a_whiteout_of_no_file_is_refused(root: Path, name: str) -> None:
    with pytest.raises(ImageError, match="is a whiteout of no file"):
        unpack(root, tar(entry(name)))


def test_a_whiteout_by_way_of_a_link_hides_inside(root: Path, outside: Path) -> None:
    unpack(root, tar(entry(f"{outside}/".lstrip("/"), DIRECTORY), link("way", str(outside)), entry("way/.wh.file")))
    assert is_whiteout(Path(f"{root}{outside}/file"))


@pytest.mark.parametrize("record", ["path=name\0/../outside", "linkpath=x\0y"])
def test_names_with_a_nul_are_refused(root: Path, record: str) -> None:
    name, value = record.split("=")
    with pytest.raises(ImageError, match="has a NUL"):
        unpack(root, tar(entry("name", SYMLINK, linkname="x", pax_headers={name: value})))


def test_attributes_that_would_steer_the_mount_are_left_out(root: Path) -> None:
    steering = {f"SCHILY.xattr.{name}": "/etc" for name in ("trusted.overlay.redirect", "user.overlay.opaque")}
    unpack(root, tar(entry("name/", DIRECTORY, pax_headers={**steering, "SCHILY.xattr.user.mine": "x"})))
    assert os.listxattr(root / "name") == ["user.mine"]


@pytest.mark.parametrize("field", ["uid", "gid"])
@pytest.mark.parametrize("value", [2**32 - 1, 2**32, 2**40])
def test_owners_that_nobody_can_be_are_refused(root: Path, field: str, value: int) -> None:
    """-1 is what leaves a file with root to chown(2)."""
    with pytest.raises(ImageError, match="which nobody can be"):
        unpack(root, tar((entry("name", mode=0o4755, **{field: value}), b"")))


def test_a_file_in_the_place_of_the_root_is_refused(root: Path) -> None:
    for member in (entry("."), entry("/", SYMLINK, linkname="/etc"), entry("./", LINK, linkname="a")):
        with pytest.raises(ImageError, match=r"would take the place of the root|hard link"):
            unpack(root, tar(member))


def test_a_path_that_is_too_long_is_an_error_with_its_name(root: Path) -> None:
    with pytest.raises((ImageError, OSError), match="File name too long"):
        unpack(root, tar(entry("a/" * 3000)))


def test_a_size_that_is_not_there_is_an_error(root: Path) -> None:
    data = tar((entry("name"), bytes(10_000)))[:6000]
    with pytest.raises(ImageError, match="the archive is truncated"):
        unpack(root, data)


def test_a_blob_that_is_another_is_an_error(root: Path) -> None:
    data = tar((entry("name"), b"x"))
    with pytest.raises(DigestError, match="the layer is not what it should be: its sha256 is"):
        unpack(root, data, expected=digest(b"other"))
    with pytest.raises(DigestError, match="the layer is not what it should be"):
        unpack(root, data, blob=b"no archive at all" * 100, expected=digest(data))
    with pytest.raises(DigestError, match="what is unpacked is not what it should be"):
        unpack(root, data, blob=gzip.compress(data + bytes(512)))


def test_more_headers_than_fit_into_memory_are_refused(root: Path) -> None:
    with pytest.raises(ImageError, match=r"the archive has a header of \d+ bytes"):
        unpack(root, tar((entry("name", pax_headers={"comment": "x" * (2 << 20)}), b"")))


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: Path) -> bool:
    return OPAQUE in os.listxattr(path)


def test_whiteouts_are_those_of_overlayfs(root: Path) -> None:
    members = (
        entry("a/", DIRECTORY),
        entry("a/.wh.gone"),
        entry("b/", DIRECTORY),
        entry("b/.wh..wh..opq"),
        (entry("b/new"), b"new"),
        entry(".wh..wh.plnk", DIRECTORY),  # Of AUFS.
    )
    assert not unpack(root, tar(*members)).opaque
    assert is_whiteout(root / "a/gone")
    assert is_opaque(root / "b")
    assert not is_opaque(root / "a")
    assert sorted(path.name for path in root.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_whiteout_hides_nothing_of_its_own_layer(root: Path, first: bool) -> None:
    """A directory that is removed and made again hides that of lower layers, in whichever order the archive says so."""
    whiteouts = (entry(".wh.directory"), entry(".wh.file"))
    made = (entry("directory/", DIRECTORY, mode=0o750), (entry("directory/new"), b""), (entry("file"), b"new"))
    unpack(root, tar(*(whiteouts + made if first else made + whiteouts)))
    assert is_opaque(root / "directory")
    assert (root / "directory/new").is_file()
    assert stat.S_IMODE((root / "directory").stat().st_mode) == 0o750
    assert (root / "file").read_text() == "new"


def test_a_directory_that_is_only_implied_takes_the_place_of_a_whiteout(root: Path) -> None:
    found = unpack(root, tar(entry(".wh.a"), (entry("a/b/file"), b"")))
    assert is_opaque(root / "a")
    assert found.implied == (b"", b"a", b"a/b")


def test_a_store_on_overlayfs_is_told(root: Path, run_directory: Path) -> None:
    """It keeps whiteouts for itself; what is opaque, only before Linux 6.7."""
    base = run_directory / "outside"
    options = f"lowerdir={base},upperdir={root.parent}/upper,workdir={root.parent}/work"
    for each in ("upper", "work"):
        (root.parent / each).mkdir()
    call("mount", "-t", "overlay", "none", "-o", options, root)
    try:
        with pytest.raises(ImageError, match=r"has no whiteouts: .*; the store belongs on one such as ext4"):
            unpack(root, tar(entry(".wh.gone")))
    finally:
        call("umount", root)
        call("rm", "-r", root.parent / "upper", root.parent / "work")


def test_an_opaque_root_is_told(root: Path) -> None:
    assert unpack(root, tar(entry(".wh..wh..opq"), (entry("file"), b""))).opaque


def test_members_replace_each_other(root: Path) -> None:
    members = (
        (entry("a"), b"file"),
        entry("a/", DIRECTORY),
        (entry("a/b/c"), b""),
        link("a", "nowhere"),
        (entry("a"), b"file again"),
        entry("pipe", tarfile.FIFOTYPE),
        (entry("pipe"), b"no pipe"),
    )
    unpack(root, tar(*members))
    assert (root / "a").read_text() == "file again"
    assert (root / "pipe").read_text() == "no pipe"


def test_everything_about_a_file_is_kept(root: Path) -> None:
    xattrs = {"SCHILY.xattr.user.a": "1", "SCHILY.xattr.trusted.b": "2"}
    members = (
        entry("closed/", DIRECTORY, mode=0o000, uid=70_000, gid=3_000_000, mtime=1),
        (entry("closed/su", mode=0o6755, uid=5, gid=6, pax_headers={"mtime": "-1.5", **xattrs}), b"x"),
        link("closed/su2", "closed/su", LINK),
        entry("sticky/", DIRECTORY, mode=0o1777, mtime=123.25),
        entry("link", SYMLINK, linkname="a" * 300, uid=9, gid=9, mtime=7),
        entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("disk", tarfile.BLKTYPE, devmajor=259, devminor=70_000, mode=0o660, gid=6),
        entry("pipe", tarfile.FIFOTYPE, mode=0o600, mtime=8),
    )
    unpack(root, tar(*members))
    closed, su = (root / "closed").stat(), (root / "closed/su").stat()
    assert (closed.st_mode & 0o7777, closed.st_uid, closed.st_gid, closed.st_mtime) == (0, 70_000, 3_000_000, 1)
    assert (su.st_mode & 0o7777, su.st_uid, su.st_gid, su.st_mtime_ns) == (0o6755, 5, 6, -1_500_000_000)
    assert su.st_ino == (root / "closed/su2").stat().st_ino
    assert {name: os.getxattr(root / "closed/su", name) for name in os.listxattr(root / "closed/su")} == {
        "user.a": b"1",
        "trusted.b": b"2",
    }
    assert ((root / "sticky").stat().st_mode & 0o7777, (root / "sticky").stat().st_mtime) == (0o1777, 123.25)
    symlink = (root / "link").lstat()
    assert (str((root / "link").readlink()), symlink.st_uid, symlink.st_mtime) == ("a" * 300, 9, 7)
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    disk = (root / "disk").stat()
    assert (stat.S_ISBLK(disk.st_mode), disk.st_rdev, disk.st_gid) == (True, os.makedev(259, 70_000), 6)
    assert (root / "pipe").stat().st_mtime == 8


@pytest.mark.parametrize("form", ["gnu", "posix", "ustar", "v7", "oldgnu"])
def test_archives_of_tar(root: Path, outside: Path, form: str) -> None:
    """Every format that tar(1) writes, with long names and holes in files where they can have them."""
    source = outside.parent / "source"
    (source / "directory").mkdir(parents=True)
    (source / "directory/file").write_text("content")
    (source / "link").symlink_to("directory/file")
    os.link(source / "directory/file", source / "hard")
    sparse = form in ("gnu", "posix", "oldgnu")
    if sparse:
        (source / ("n" * 180) / ("m" * 180)).mkdir(parents=True)
        (source / ("n" * 180) / ("m" * 180) / "file").symlink_to("t" * 200)
        with (source / "holes").open("wb") as file:
            for number in range(30):
                file.seek(number * 1_000_000)
                file.write(f"part {number}".encode())
            file.truncate(40_000_000)
    data = subprocess.run(
        ["tar", "-c", f"--format={form}", *(["--sparse"] if sparse else []), "-C", source, "."],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    try:
        unpack(root, data)
        assert call("diff", "-r", "--no-dereference", source, root) == ""
        if sparse:
            assert len(data) < 3_000_000, "the archive has no holes"
            assert (root / "holes").stat().st_blocks * 512 < 3_000_000
    finally:
        call("rm", "-r", source)


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_sparse_files_of_each_pax_version(root: Path, outside: Path, version: str) -> None:
    source = outside.parent / "source"
    with source.open("wb") as file:
        file.seek(5_000_000)
        file.write(b"in the middle")
        file.truncate(9_000_000)
    data = subprocess.run(
        ["tar", "-c", "--format=posix", "--sparse", f"--sparse-version={version}", "-C", source.parent, "source"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    expected = source.read_bytes()
    source.unlink()
    unpack(root, data)
    assert (root / "source").read_bytes() == expected


@pytest.mark.parametrize("parts", [((100, 10),), ((0, 6), (3, 4)), ((-1 % 2**63, 10),)])
def test_maps_of_sparse_files_that_lie_are_refused(root: Path, parts: tuple[tuple[int, int], ...]) -> None:
    numbers = ",".join(str(number) for part in parts for number in part)
    headers = {"GNU.sparse.size": "20", "GNU.sparse.numblocks": str(len(parts)), "GNU.sparse.map": numbers}
    with pytest.raises(ImageError, match="sparse file"):
        unpack(root, tar((entry("name", pax_headers=headers), b"x" * 10)))


def test_numbers_of_gnu_in_base_256(root: Path) -> None:
    info = entry("name", mtime=5_000_000_000, uid=2**31)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(info)
    unpack(root, file.getvalue())
    assert ((root / "name").stat().st_mtime, (root / "name").stat().st_uid) == (5_000_000_000, 2**31)


def test_a_device_number_that_there_cannot_be_is_refused(root: Path) -> None:
    block = bytearray(tar(entry("name", tarfile.CHRTYPE, devmajor=1, devminor=1)))
    block[329:337] = b"7777777\0"
    block[148:156] = b" " * 8
    block[148:156] = struct.pack("8s", f"{sum(block[:512]):06o}\0 ".encode())
    with pytest.raises(ImageError, match="is the device 2097151:1, which there cannot be"):
        unpack(root, bytes(block))
