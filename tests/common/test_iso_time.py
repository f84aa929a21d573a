"""Moments as they are told."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.iso_time import iso_time


@pytest.mark.parametrize(
    ("unix_ms", "told"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_790_000_000_999, "2026-09-21T14:13:20Z"),
        (-1, "1970-01-01T00:00:00Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59Z"),
        (253_402_300_800_000, "9999-12-31T23:59:59Z"),
    ],
)
def test_a_time_is_told_in_whole_seconds_within_the_calendar(unix_ms: int, told: str) -> None:
    assert iso_time(unix_ms) == told


@given(st.integers())
def test_no_time_that_a_stranger_signs_fails_to_be_told(unix_ms: int) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", iso_time(unix_ms))
