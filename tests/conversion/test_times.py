"""Times of any form become seconds since 1970, and the form is said."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm_interest.conversion.times import parse_times
from recbole_llm_interest.errors import DataError

SECOND = 1388570400.0  # 2014-01-01 10:00 UTC
DAY = 1388534400.0


@pytest.mark.parametrize(
    ("cell", "expected", "meaning"),
    [
        ("2014-01-01 10:00", SECOND, "ISO dates and times, without a zone: read as UTC"),
        ("2014-01-01T10:00:00.000Z", SECOND, "ISO dates and times, with a zone"),
        ("2014-01-01T12:00:00+02:00", SECOND, "ISO dates and times, with a zone"),
        ("2014-01-01 10:00:00 UTC", SECOND, "ISO dates and times, with a zone"),
        ("2014-01-01", DAY, "ISO dates without a time of day"),
        (date(2014, 1, 1), DAY, "ISO dates without a time of day"),
        (datetime(2014, 1, 1, 10, tzinfo=UTC), SECOND, "dates and times, with a zone"),
        (pd.Timestamp("2014-01-01 10:00"), SECOND, "dates and times, without a zone: read as UTC"),
        ("2014-01-01 10:00:00 GMT", SECOND, "ISO dates and times, with a zone"),
        (
            "Wed, 01 Jan 2014 10:00:00 GMT",
            SECOND,
            "dates written as %a, %d %b %Y %H:%M:%S %Z",
        ),
        (
            "Wed, 01 Jan 2014 12:00:00 +0200",
            SECOND,
            "dates written as %a, %d %b %Y %H:%M:%S %z",
        ),
        ("1/31/2014 10:00", SECOND + 30 * 86400, "dates written as %m/%d/%Y %H:%M, read as UTC"),
        ("31.01.2014", DAY + 30 * 86400, "dates written as %d.%m.%Y, read as UTC"),
        ("Jan 1, 2014", DAY, "dates written as %b %d, %Y, read as UTC"),
        ("Wed Jan 01 12:00:00 +0200 2014", SECOND, "dates written as %a %b %d %H:%M:%S %z %Y"),
        (20140101, DAY, "dates written as %Y%m%d, read as UTC"),
        ("20140101100000", SECOND, "dates written as %Y%m%d%H%M%S, read as UTC"),
        (1388570400, SECOND, "epochs in seconds"),
        (1388570400.5, SECOND + 0.5, "epochs in seconds"),
        ("1388570400.5", SECOND + 0.5, "epochs in seconds"),
        (Decimal(1388570400), SECOND, "epochs in seconds"),
        (1388570400_000, SECOND, "epochs in milliseconds"),
        (1388570400_000_000, SECOND, "epochs in microseconds"),
        ("1388570400000000000", SECOND, "epochs in nanoseconds"),
        (17, 17.0, "numbers, kept as they are"),
    ],
)
def test_forms(cell, expected, meaning):
    times = parse_times(pd.Series([cell, cell]))
    assert times.seconds.tolist() == [expected, expected]
    assert times.meaning == meaning


@pytest.mark.parametrize(
    ("cell", "written", "expected"),
    [
        ("2014-01-01 10:00:00 UTC", "%Y-%m-%d %H:%M:%S UTC", SECOND),
        ("10h of 01.01.2014 GMT", "%Hh of %d.%m.%Y %Z", SECOND),
        (20140101.0, "%Y%m%d", DAY),
        ("20140101.0", "%Y%m%d", DAY),
        ("20140101100000.0", "%Y%m%d%H%M%S", SECOND),
        ("20140101.000", "%Y%m%d.%f", DAY),
    ],
)
def test_format_that_is_given(cell, written, expected):
    times = parse_times(pd.Series([cell, None]), written)
    assert times.seconds[0] == expected
    assert np.isnan(times.seconds[1])


def test_empty_and_unusable_cells_are_nan():
    times = parse_times(pd.Series(["2014-01-01", "", None, "soon", "2014-01-01T01:00:00+01:00", "2014-13-01"]))
    assert times.seconds[[0, 4]].tolist() == [DAY, DAY]
    assert np.isnan(times.seconds).tolist() == [False, True, True, True, False, True]


def test_placeholders_among_epochs_are_no_times():
    times = parse_times(pd.Series([1388570400, 0, -1, np.nan, 1388570401, 1388570402]))
    assert times.seconds[[0, 4]].tolist() == [SECOND, SECOND + 1]
    assert np.isnan(times.seconds[1:4]).all()


def test_several_units_are_told_apart_and_said():
    times = parse_times(pd.Series([1388570400, 1388570400000, 1388570400]))
    assert times.seconds.tolist() == [SECOND] * 3
    assert times.meaning == "epochs in several units: 2 in seconds, 1 in milliseconds"


def test_day_before_month_is_known_by_one_date():
    assert parse_times(pd.Series(["1/2/2014", "13/2/2014"])).seconds[0] == datetime(2014, 2, 1, tzinfo=UTC).timestamp()
    assert parse_times(pd.Series(["1/2/2014", "2/13/2014"])).seconds[0] == datetime(2014, 1, 2, tzinfo=UTC).timestamp()
    rare = ["1/2/2014"] * 5000 + ["2/1/2014", "13/2/2014"]
    assert parse_times(pd.Series(rare)).meaning.startswith("dates written as %d/%m/%Y")


def test_day_that_may_be_a_month_is_an_error_that_names_the_formats():
    dates = pd.Series(["1/2/2014", "3/4/2014"], name="bought")
    with pytest.raises(DataError, match=r"'bought'.*time_format='%m/%d/%Y' or time_format='%d/%m/%Y'"):
        parse_times(dates)
    assert parse_times(dates, "%d/%m/%Y").seconds[0] == datetime(2014, 2, 1, tzinfo=UTC).timestamp()
    with pytest.raises(DataError, match="time_format='%Q' is invalid"):
        parse_times(dates, "%Q")


moments = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1))
zones = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(moments, zones), min_size=1, max_size=5))
def test_iso_with_any_zone_is_the_moment(pairs):
    dated = [moment.replace(tzinfo=zone) for moment, zone in pairs]
    times = parse_times(pd.Series([moment.isoformat() for moment in dated]))
    assert times.seconds.tolist() == pytest.approx([moment.timestamp() for moment in dated], abs=1e-5)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(10**8, 5 * 10**9 - 1), min_size=1, max_size=5), st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_epochs_of_any_unit_are_the_same_seconds(seconds, scale):
    for values in (
        pd.Series([second * scale for second in seconds]),
        pd.Series([str(second * scale) for second in seconds]),
    ):
        assert parse_times(values).seconds.tolist() == pytest.approx(seconds)
