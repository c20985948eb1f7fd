"""The accounting of the cache: what is kept, who gets it, and what goes first."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mesocosm.errors import FlagError
from mesocosm.fetcher.cache import Cache, Key
from mesocosm.launcher.info import Credentials

ALICE, BOB = Credentials(1000, 1000), Credentials(1001, 1001)
A, B, C = (Key(ALICE, uri) for uri in "abc")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 100)


def put(cache: Cache, key: Key, size: int, digest: str | None = None) -> Path:
    victims = cache.reserve(size)
    assert victims is not None
    for victim in victims:
        victim.unlink()
    with cache.partial(key) as (descriptor, path):
        os.write(descriptor, b"x" * size)
        cache.add(key, path, size, digest or f"{hash(key) % 2**64:064x}")
    return path


def has(cache: Cache, key: Key) -> bool:
    with cache.reading(key) as descriptor:
        return descriptor is not None


def files(cache: Cache) -> list[Path]:
    return [path for path in cache._directory.rglob("*") if path.is_file()]


def test_what_is_put_is_found(cache: Cache) -> None:
    assert not has(cache, A)
    put(cache, A, 60)
    with cache.reading(A) as descriptor:
        assert descriptor is not None
        assert os.read(descriptor, 100) == b"x" * 60
    assert cache.used == 60
    (file,) = files(cache)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file.parent.parent)] == [0o700] * 2
    assert file.parent.name == "1000"


def test_what_one_user_has_another_has_not(cache: Cache) -> None:
    put(cache, A, 10)
    assert not has(cache, Key(BOB, "a"))
    assert not has(cache, Key(Credentials(1000, 1000, (27,)), "a")), "a group may be what it takes to read it"


def test_a_download_that_fails_leaves_nothing(cache: Cache) -> None:
    with cache.partial(A) as (descriptor, path):
        os.write(descriptor, b"half")
        assert path.exists()
    assert files(cache) == []
    assert not has(cache, A)


def test_the_file_used_longest_ago_goes_first(cache: Cache) -> None:
    put(cache, A, 50)
    put(cache, B, 50)
    assert has(cache, A)
    put(cache, C, 50)
    assert [has(cache, key) for key in (A, B, C)] == [True, False, True]
    assert cache.used == 100
    assert len(files(cache)) == 2


def test_no_more_goes_than_has_to(cache: Cache) -> None:
    for key in (A, B, C):
        put(cache, key, 33)
    assert cache.reserve(34) is not None
    assert [has(cache, key) for key in (A, B, C)] == [False, True, True]
    assert cache.used == 100


def test_a_file_in_use_stays(cache: Cache) -> None:
    put(cache, A, 50)
    put(cache, B, 50)
    with cache.reading(A), cache.reading(A):
        assert cache.reserve(60) is None
        assert cache.used == 100
        put(cache, C, 50)
        assert [has(cache, key) for key in (A, B, C)] == [True, False, True]
    assert cache.reserve(60) is not None


@pytest.mark.parametrize(("size", "wanted"), [(100, 101), (0, 1)])
def test_what_is_larger_than_the_cache_evicts_nothing(tmp_path: Path, size: int, wanted: int) -> None:
    cache = Cache(tmp_path, size)
    put(cache, A, size)
    assert cache.reserve(wanted) is None
    assert has(cache, A)
    assert cache.used == size


def test_what_is_reserved_counts(cache: Cache) -> None:
    assert cache.reserve(60) == []
    assert cache.reserve(60) is None
    cache.release(60)
    assert cache.reserve(100) == []


def test_one_content_is_kept_once(cache: Cache) -> None:
    for key in (A, B, C):
        put(cache, key, 40, "e" * 64)
    assert cache.used == 40
    assert len(files(cache)) == 1
    assert [has(cache, key) for key in (A, B, C)] == [True] * 3
    assert cache.reserve(100) is not None
    assert [has(cache, key) for key in (A, B, C)] == [False] * 3


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"less")])
def test_a_file_that_somebody_changed_is_forgotten(cache: Cache, change: object) -> None:
    put(cache, A, 60)
    assert callable(change)
    change(files(cache)[0])
    assert not has(cache, A)
    assert cache.used == 0
    put(cache, A, 60)
    assert has(cache, A)


def test_clearing_takes_only_what_is_its_own(cache: Cache) -> None:
    put(cache, A, 10)
    put(cache, Key(BOB, "b"), 10)
    own = cache._directory
    others = [own / "notes", own / "1000/notes", own / "77/notes", own / "home" / ("a" * 64)]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.write_text("kept")
    (own / "1000" / "part-abc_12").touch()
    Cache(own, 100).clear()
    assert sorted(files(cache)) == sorted(others)
    assert not (own / "1001").exists()
    Cache(own / "none", 100).clear()


@pytest.mark.parametrize(("which", "mode"), [("cache", 0o777), ("cache", 0o770), ("cache", 0o1777), ("", 0o777)])
def test_a_directory_that_others_may_write_to_is_refused(cache: Cache, tmp_path: Path, which: str, mode: int) -> None:
    cache.check()
    (tmp_path / which).chmod(mode)
    with pytest.raises(FlagError, match=rf"--fetcher_cache_dir: others can write to {tmp_path / which}"):
        cache.check()
    with pytest.raises(FlagError), cache.partial(A):
        pass
    tmp_path.chmod(0o1777 if not which else 0o775)
    (tmp_path / "cache").chmod(0o700)
    cache.check()


def test_a_link_to_the_directory_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    cache = Cache(tmp_path / "link", 100)
    cache.check()
    (tmp_path / "link").unlink()
    put(cache, A, 10)
    assert len(files(cache)) == 1
