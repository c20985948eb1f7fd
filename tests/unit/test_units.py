"""Sizes and durations: what people write, and what they get."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.errors import FlagError
from mesocosm.units import format_duration, format_size, parse_duration, parse_size

SIZES = {
    "0": 0,
    "17": 17,
    "17B": 17,
    "64MB": 64 << 20,
    "10GB": 10 << 30,
    "2TB": 2 << 40,
    "1KB": 1024,
    "512m": 512 << 20,
    "1.5g": 3 << 29,
    "0.5KB": 512,
    "16MiB": 16 << 20,
    " 3 kb ": 3072,
}

DURATIONS = {
    "5": 5,
    "0.25": 0.25,
    "15secs": 15,
    "5s": 5,
    "1mins": 60,
    "2m": 120,
    "3hrs": 10800,
    "1days": 86400,
    "1weeks": 604800,
    "250ms": 0.25,
    "8us": 8e-6,
    "9ns": 9e-9,
}


@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "x", "-1", "-1MB", "1XB", "1 2", "1e3", "1,5MB", "0x10", "9" * 40, "nan"])
def test_no_size(text: str) -> None:
    with pytest.raises(FlagError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize("number", [-1, 2**63])
def test_no_size_of_a_number(number: int) -> None:
    with pytest.raises(FlagError):
        parse_size(number)


@given(st.integers(0, 2**63 - 1))
def test_size_of_whole_bytes_is_exact(number: int) -> None:
    assert parse_size(str(number)) == parse_size(f"{number}B") == parse_size(number) == number


@given(st.integers(0, 2**20), st.sampled_from("KMGT"))
def test_size_has_multiples_of_1024(number: int, letter: str) -> None:
    size = number * 1024 ** ("KMGT".index(letter) + 1)
    assert parse_size(f"{number}{letter}B") == parse_size(f"{number}{letter.lower()}") == size


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "secs", "-1s", "1fortnight", "1e3", "inf", "nan"])
def test_no_duration(text: str) -> None:
    with pytest.raises(FlagError, match="is no duration"):
        parse_duration(text)


@pytest.mark.parametrize("number", [-1, math.inf, math.nan])
def test_no_duration_of_a_number(number: float) -> None:
    with pytest.raises(FlagError):
        parse_duration(number)


@given(st.text())
def test_any_text_is_a_value_or_refused(text: str) -> None:
    for parse in (parse_size, parse_duration):
        try:
            assert parse(text) >= 0
        except FlagError as error:
            assert "\n" not in str(error)  # noqa: PT017 - any text may be fine.


def test_durations_for_people() -> None:
    assert format_duration(90) == "90 s"
    assert format_duration(0.5) == "0.5 s"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (4096, "4KB"), (1536 << 10, "1536KB"), (2 << 30, "2GB"), (1 << 50, "1024TB")],
)
def test_sizes_are_written_as_mesos_does(size: int, text: str) -> None:
    assert format_size(size) == text
