"""Which isolators `--isolation` means."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesocosm.errors import FlagError
from mesocosm.flags import Flags
from mesocosm.isolators import selection
from mesocosm.isolators.selection import REFUSED
from tests.third_party import ISOLATOR, ThirdParty

LINUX = "linux"
ALWAYS = "environment_secret"
NETWORK = "network/cni"
"""It comes with the Linux launcher."""
DEFAULTS = [NETWORK, "volume/host_path", "volume/image", "volume/sandbox_path"]
"""The others come with `filesystem/linux`."""


def names(isolation: str, launcher: str = LINUX) -> list[str]:
    """All but the one that always is among them."""
    found = selection.names(Flags(isolation=isolation), launcher)
    assert found.count(ALWAYS) == 1
    return [name for name in found if name != ALWAYS]


@pytest.mark.parametrize(
    ("isolation", "expected"),
    [
        ("", ["filesystem/posix", NETWORK]),
        (" , ", ["filesystem/posix", NETWORK]),
        ("posix/cpu", ["filesystem/posix", NETWORK, "posix/cpu"]),
        ("process", ["filesystem/posix", NETWORK, "posix/cpu", "posix/mem"]),
        ("process,posix/cpu", ["filesystem/posix", NETWORK, "posix/cpu", "posix/mem"]),
        ("cgroups", ["filesystem/posix", "cgroups/cpu", "cgroups/mem", NETWORK]),
        ("network/ports", ["filesystem/posix", NETWORK, "network/ports"]),
        ("filesystem/linux", ["filesystem/linux", *DEFAULTS]),
        ("network/cni,filesystem/linux", ["filesystem/linux", *DEFAULTS]),
        (
            "namespaces/ipc, cgroups/pids ,namespaces/pid,filesystem/linux",
            ["filesystem/linux", "cgroups/pids", "namespaces/ipc", "namespaces/pid", *DEFAULTS],
        ),
        ("volume/sandbox_path,filesystem/linux", ["filesystem/linux", *DEFAULTS]),
    ],
)
def test_names_in_the_order_they_work_in(isolation: str, expected: list[str]) -> None:
    assert names(isolation) == expected


@pytest.mark.parametrize(
    ("isolation", "text"),
    [
        ("no/such", "no isolator 'no/such'"),
        ("base", "no isolator 'base'"),
        ("cgroups/base", "no isolator 'cgroups/base'"),
        ("selection", "no isolator 'selection'"),
        ("posix", "no isolator 'posix'"),
        ("../posix/cpu", "no isolator"),
        ("posix.cpu", "no isolator 'posix.cpu'"),
        ("posix/cpu,posix/cpu", "'posix/cpu' twice"),
        ("cgroups,cgroups", "'cgroups' twice"),
        ("filesystem/linux,filesystem/posix", "both 'filesystem/linux' and 'filesystem/posix'"),
        ("namespaces/pid", "'namespaces/pid' needs 'filesystem/linux'"),
        ("namespaces/ipc,filesystem/posix", "'namespaces/ipc' needs 'filesystem/linux'"),
    ],
)
def test_lists_that_make_no_sense(isolation: str, text: str) -> None:
    with pytest.raises(FlagError, match=text) as caught:
        names(isolation)
    assert caught.value.hint, "it says what to do"


@pytest.mark.parametrize("isolation", ["filesystem/linux", "filesystem/linux,namespaces/pid", "network/ports"])
def test_the_launcher_that_an_isolator_needs(isolation: str) -> None:
    with pytest.raises(FlagError, match="needs the linux launcher"):
        names(isolation, "posix")


def test_every_isolator_has_the_name_of_its_file() -> None:
    package = Path(selection.__file__).parent
    files = {str(path.relative_to(package).with_suffix("")) for path in package.rglob("*.py")}
    helpers = ("__init__", "base", "concerns", "mounting", "projects", "records", "selection")
    expected = {name for name in files if not name.endswith(helpers)}
    assert set(selection.built_in()) == expected


def test_an_isolator_of_another_package(third_party: ThirdParty) -> None:
    third_party("mine/one", ISOLATOR.format(body="requires = ('posix/cpu',)"))
    assert names("mine/one,posix/cpu") == ["filesystem/posix", NETWORK, "posix/cpu", "mine/one"]
    with pytest.raises(FlagError, match="'mine/one' needs 'posix/cpu'"):
        names("mine/one")


def test_isolators_of_other_packages_keep_their_order(third_party: ThirdParty) -> None:
    for name in ("b/one", "a/two"):
        third_party(name, ISOLATOR.format(body="pass"))
    assert names("b/one,filesystem/linux,a/two") == ["filesystem/linux", *DEFAULTS, "b/one", "a/two"]


def test_an_isolator_is_told_which_others_there_are(third_party: ThirdParty) -> None:
    """By the names that aliases stand for, and with those that nobody has named."""
    body = "@classmethod\n    def create(cls, flags):\n        cls.told = flags.isolators\n        return cls()"
    third_party("mine/one", ISOLATOR.format(body=body))
    selected = selection.select(Flags(isolation=" process,mine/one "), "posix")
    told = next(vars(type(named.isolator))["told"] for named in selected if named.name == "mine/one")
    assert told == [named.name for named in selected]
    assert set(told) == {ALWAYS, "filesystem/posix", "posix/cpu", "posix/mem", "mine/one"}


@pytest.mark.parametrize("body", ["Mine = 3\n", "class Mine: pass\n"])
def test_an_entry_point_that_is_no_isolator(third_party: ThirdParty, body: str) -> None:
    third_party("bad/one", body)
    with pytest.raises(FlagError, match=r"'bad/one'.*is no isolator"):
        names("bad/one")


@pytest.mark.parametrize("body", ["import no_such_module\n", "raise RuntimeError('broken')\n", "Other = 1\n"])
def test_an_entry_point_that_cannot_be_loaded(third_party: ThirdParty, body: str) -> None:
    third_party("broken/one", body)
    with pytest.raises(FlagError, match="'broken/one'"):
        names("broken/one")


@pytest.mark.parametrize("name", REFUSED)
def test_isolators_of_mesos_that_there_will_not_be(name: str) -> None:
    with pytest.raises(FlagError, match=f"there is no '{name}' here: ") as caught:
        selection.names(Flags(isolation=name), "linux")
    assert caught.value.hint
