"""Hours of the week as people write them."""

from __future__ import annotations

import datetime

import pytest

from jcpeer.hours import DAY_S, WEEK_S, clock_text, parse_hours, second_of_week

HOUR_S = 3600
MON, TUE, FRI, SAT, SUN = 0, DAY_S, 4 * DAY_S, 5 * DAY_S, 6 * DAY_S


def test_an_interval_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    hours = parse_hours("Mon-Fri 18:00-08:00, Sat-Sun")
    inside = (MON + 18 * HOUR_S, TUE + 7 * HOUR_S, FRI + 23 * HOUR_S, SAT + 12 * HOUR_S, SUN + 23 * HOUR_S)
    outside = (MON + 3 * HOUR_S, MON + 12 * HOUR_S, TUE + 8 * HOUR_S, FRI + 17 * HOUR_S)
    assert all(map(hours.contain, inside))
    assert not any(map(hours.contain, outside))


def test_the_night_of_sunday_goes_on_at_the_beginning_of_the_week() -> None:
    hours = parse_hours("Sun 22:00-06:00")
    assert hours.intervals == ((0, 6 * HOUR_S), (SUN + 22 * HOUR_S, WEEK_S))
    assert hours.next_change(SUN + 23 * HOUR_S) == 7 * HOUR_S


def test_times_without_days_are_those_of_every_day() -> None:
    assert len(parse_hours("09:00-17:00").intervals) == 7
    assert parse_hours("0:00-24:00").next_change(0) == WEEK_S


@pytest.mark.parametrize("text", ["18:00-08:00", "Fri-Mon, Wed 12:00-13:30", "Mon 00:00-01:00"])
def test_the_next_change_is_the_first_second_that_differs(text: str) -> None:
    hours = parse_hours(text)
    for second in range(0, WEEK_S, 977):
        change_s = hours.next_change(second)
        assert hours.contain((second + change_s) % WEEK_S) != hours.contain(second)
        assert hours.contain((second + change_s - 1) % WEEK_S) == hours.contain(second)


def test_seconds_of_the_week_are_those_of_the_calendar() -> None:
    for day in range(1, 29):
        moment = datetime.datetime(2024, 2, day, 13, 7, tzinfo=datetime.UTC)
        assert clock_text(second_of_week(moment.timestamp())) == moment.strftime("%a %H:%M")


@pytest.mark.parametrize("text", ["", "night", "25:00-26:00", "Mon-", "Mo 8:00-9:00", "08:00-08:00", "8-9", "Mon,"])
def test_what_is_no_time_of_the_week_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|leave"):
        parse_hours(text)
