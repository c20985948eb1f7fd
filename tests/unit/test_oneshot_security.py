"""What a container of `mesocosm run` may do, as people write it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mesocosm.container import LinuxInfo, RLimit, SeccompInfo
from mesocosm.errors import FlagError
from mesocosm.linux import capabilities
from mesocosm.linux.seccomp import profile
from mesocosm.oneshot.choice import Choice
from mesocosm.oneshot.security import CAPABILITIES, UNRESTRICTED, Security, choose, for_image, parse_rlimit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
HELD = frozenset(capabilities.names_of(capabilities.get().permitted))


def test_nothing_is_restricted_unless_it_is_asked_for() -> None:
    assert choose() == UNRESTRICTED
    assert UNRESTRICTED.isolators == ()
    assert UNRESTRICTED.apply(LinuxInfo(shm_size=1), ()) == LinuxInfo(shm_size=1)


def test_images_are_restricted() -> None:
    default = for_image()
    assert default == Security(CAPABILITIES, (), ("MKNOD",), profile.SHIPPED / profile.DEFAULT, no_new_privileges=True)
    assert default.isolators == ("linux/capabilities", "linux/nnp", "linux/seccomp")
    info = default.apply(LinuxInfo(), ["cgroups/devices"])
    assert (info.bounding_capabilities, info.effective_capabilities) == (CAPABILITIES, ())
    assert info.seccomp == SeccompInfo(str(profile.SHIPPED / profile.DEFAULT)[1:])
    assert len(CAPABILITIES) == 14, "as in Docker"
    assert for_image(["filesystem/linux", "linux/nnp"]) == Security(guarded=("MKNOD",), no_new_privileges=True)


def test_devices_are_made_only_where_not_all_can_be_opened() -> None:
    def bounding(security: Security) -> set[str]:
        return set(security.apply(LinuxInfo(), ["linux/capabilities"]).bounding_capabilities or ())

    assert bounding(for_image()) == {*CAPABILITIES} - {"MKNOD"}
    assert bounding(choose(for_image(), drop=["CHOWN"])) == {*CAPABILITIES} - {"MKNOD", "CHOWN"}
    assert bounding(choose(for_image(), add=["MKNOD"])) == {*CAPABILITIES}, "it was asked for"


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], ["ALL"], set()),
        (["chown"], ["all"], {"CHOWN"}),
        (["CAP_NET_ADMIN"], [], {*CAPABILITIES, "NET_ADMIN"}),
        ([], ["cap_chown", "KILL"], {*CAPABILITIES} - {"CHOWN", "KILL"}),
        (["ALL"], [], {*CAPABILITIES, *HELD}),
        (["CHOWN"], ["CHOWN"], {*CAPABILITIES}),
    ],
)
def test_capabilities(add: list[str], drop: list[str], expected: set[str]) -> None:
    chosen = choose(for_image(), add=add, drop=drop)
    assert chosen.bounding is not None
    assert set(chosen.bounding) == expected
    assert len(chosen.bounding) == len(expected)


def test_what_is_added_every_user_has() -> None:
    chosen = choose(for_image(), add=["NET_RAW", "CHOWN"])
    assert chosen.effective == ("CHOWN", "NET_RAW")


def test_without_an_image_the_others_are_kept() -> None:
    if "CHOWN" not in HELD:
        pytest.skip("this process has no capabilities")
    assert set(choose(drop=["CHOWN"]).bounding or ()) == HELD - {"CHOWN"}


def test_who_has_none_can_drop_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "get", lambda: capabilities.Sets(0, 0))
    assert choose(drop=["ALL"]) == Security(())
    assert choose(add=["ALL"]) == Security(())


def test_privileged_takes_the_defaults_away() -> None:
    assert choose(for_image(), privileged=True) == UNRESTRICTED
    assert choose(for_image(), privileged=True, drop=["ALL"]) == Security(())


def test_other_choices(tmp_path: Path) -> None:
    (tmp_path / "mine.json").touch()
    assert choose(seccomp="default").profile == profile.SHIPPED / profile.DEFAULT
    assert choose(seccomp=str(tmp_path / "mine.json")).profile == tmp_path / "mine.json"
    assert choose(for_image(), seccomp="unconfined").profile is None
    assert choose(for_image(), no_new_privileges=False).no_new_privileges is False
    assert choose(no_new_privileges=True).isolators == ("linux/nnp",)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(FlagError, match="--cap-add: there is no capability 'CHWN'; write one of capabilities"):
        choose(add=["CHWN"])
    with pytest.raises(FlagError, match="--cap-drop: there is no capability"):
        choose(drop=["41"])
    with pytest.raises(FlagError, match="--seccomp: there is no profile '/nowhere'"):
        choose(seccomp="/nowhere")
    with pytest.raises(FlagError, match="--no-new-privileges: the isolator linux/nnp is not in use here"):
        Choice(("posix/cpu",), "posix").check_isolators(["linux/nnp"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nofile=64", RLimit("NOFILE", 64, 64)),
        ("NOFILE=64:128", RLimit("NOFILE", 64, 128)),
        ("RLIMIT_CORE=0", RLimit("CORE", 0, 0)),
        ("RLMT_CORE=unlimited", RLimit("CORE")),
        ("core=1:unlimited", RLimit("CORE", 1, (1 << 64) - 1)),
        ("core=-1", RLimit("CORE")),
    ],
)
def test_limits(text: str, expected: RLimit) -> None:
    assert parse_rlimit(text) == expected


@pytest.mark.parametrize(
    "text", ["nofile", "bla=1", "nofile=", "nofile=x", "nofile=1:x", "nofile=-2", "=1", "core=\u0661"]
)
def test_limits_that_are_none(text: str) -> None:
    with pytest.raises(FlagError, match="--rlimit: "):
        parse_rlimit(text)
