import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlops_core.joins.flights import (
    GIVEN_UP_AFTER,
    KNOWN_BEFORE,
    LATE_FROM,
    LOOK_BACK,
    SAME_ROTATION,
    add_running_late,
    join,
    last_delay_of_aircraft,
    overdue_flights,
    recent_departures,
    scheduled_minutes,
)

COLUMNS = [
    "origin_departures",
    "origin_mean_delay",
    "origin_share_late",
    "origin_overdue",
    "carrier_mean_delay",
    "aircraft_last_delay",
]
# Coarse minutes make ties and exact boundaries common. No flight leaves two hours early.
DELAYS = st.none() | st.sampled_from([-115, -30, -10, 0, 14, 15, 30, 60, 120, 170, 180, 190, 240, 600, 1200])
ONE = st.tuples(
    st.integers(0, 150).map(lambda step: step * 10),
    DELAYS,
    st.sampled_from(["N1", "N2", None]),
    st.sampled_from(["EWR", "JFK"]),
    st.sampled_from(["AA", "UA"]),
)
FLIGHTS = st.lists(ONE, min_size=1, max_size=14)


def frame(flights):
    return pd.DataFrame(flights, columns=["at", "dep_delay", "tailnum", "origin", "carrier"]).assign(
        dep_delay=lambda table: table["dep_delay"].astype("float64"),
        time_hour=lambda table: pd.Timestamp("2013-06-01") + pd.to_timedelta(table["at"] // 60, unit="h"),
        minute=lambda table: table["at"] % 60,
    )


def times(flights):
    table = frame(flights)
    return scheduled_minutes(table), table["dep_delay"].to_numpy(), table


@given(FLIGHTS)
def test_recent_departures_are_those_that_really_left_in_the_window(flights):
    scheduled, delay, _ = times(flights)
    found = recent_departures(scheduled, delay, scheduled)
    for row, asked in enumerate(scheduled):
        window = [d for s, d in zip(scheduled, delay, strict=True) if asked - LOOK_BACK < s + d <= asked - KNOWN_BEFORE]
        expected = (
            [len(window), np.mean(window), np.mean(np.array(window) >= LATE_FROM)] if window else [0, np.nan, np.nan]
        )
        np.testing.assert_allclose(found.loc[row].to_numpy(dtype=float), expected, atol=1e-9)


@given(FLIGHTS)
def test_overdue_flights_should_have_left_and_have_not(flights):
    scheduled, delay, _ = times(flights)
    found = overdue_flights(scheduled, delay, scheduled)
    for row, asked in enumerate(scheduled):
        now = asked - KNOWN_BEFORE
        expected = sum(
            s <= now < s + GIVEN_UP_AFTER and not s + d <= now for s, d in zip(scheduled, delay, strict=True)
        )
        assert found[row] == expected


@given(FLIGHTS)
def test_the_last_delay_is_of_the_same_aircraft_and_known(flights):
    scheduled, delay, table = times(flights)
    found = last_delay_of_aircraft(table["tailnum"], scheduled, delay)
    for row, asked in enumerate(scheduled):
        now, tail = asked - KNOWN_BEFORE, table["tailnum"][row]
        earlier = [
            (s + d, d)
            for s, d, other in zip(scheduled, delay, table["tailnum"], strict=True)
            if not pd.isna(tail) and other == tail and now - SAME_ROTATION <= s + d <= now
        ]
        last = {d for at, d in earlier if at == max(at for at, _ in earlier)}
        assert found[row] in last if last else np.isnan(found[row])


def running_late(flights):
    table = frame(flights)
    return add_running_late(table[["at"]], table)[COLUMNS]


@given(FLIGHTS, st.data())
def test_a_flights_own_delay_never_enters(flights, data):
    row = data.draw(st.integers(0, len(flights) - 1))
    changed = [*flights]
    changed[row] = (flights[row][0], data.draw(DELAYS), *flights[row][2:])
    pd.testing.assert_series_equal(running_late(flights).loc[row], running_late(changed).loc[row])


@given(FLIGHTS, st.data())
def test_nothing_that_happens_after_the_question_changes_the_answer(flights, data):
    row = data.draw(st.integers(0, len(flights) - 1))
    now = flights[row][0] - KNOWN_BEFORE
    changed = []
    for at, delay, *rest in flights:
        unknown = delay is None or at + delay > now
        other = data.draw(DELAYS) if unknown else delay
        changed.append((at, other if other is None or at + other > now else delay, *rest))
    assume(changed != flights)
    pd.testing.assert_series_equal(running_late(flights).loc[row], running_late(changed).loc[row])


@given(FLIGHTS)
def test_airports_do_not_know_of_each_other(flights):
    one = [flight for flight in flights if flight[3] == "EWR"]
    assume(one)
    rows = [row for row, flight in enumerate(flights) if flight[3] == "EWR"]
    columns = COLUMNS[:5]
    together = running_late(flights).loc[rows, columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(together, running_late(one)[columns])


def test_minutes_are_counted_through_the_night_when_clocks_change():
    hours = pd.to_datetime(["2013-03-10 06:00", "2013-03-10 07:00"])
    minutes = scheduled_minutes(pd.DataFrame({"time_hour": hours, "minute": [30, 0]}))
    assert minutes[1] - minutes[0] == 30


def flight(**changes):
    return {
        "year": 2013, "month": 1, "day": 1, "dep_time": 500, "sched_dep_time": 515, "dep_delay": -15.0,
        "arr_time": 800, "sched_arr_time": 819, "arr_delay": 0.0, "carrier": "UA", "flight": 1545, "tailnum": "N1",
        "origin": "EWR", "dest": "IAH", "air_time": 227.0, "distance": 1400.0, "hour": 5, "minute": 15,
        "time_hour": pd.Timestamp("2013-01-01 10:00"), **changes,
    }  # fmt: skip


def joined(*flights):
    planes = pd.DataFrame({"tailnum": ["N1"], "year": [1999], "seats": [149]})
    weather = pd.DataFrame(
        {"origin": ["EWR"], "time_hour": [pd.Timestamp("2013-01-01 10:00")], "temp": [39.0]}
        | {name: [1] for name in ("year", "month", "day", "hour")}
    )
    return join({"flights": pd.DataFrame(flights), "planes": planes, "weather": weather})


@pytest.mark.parametrize(
    ("delay", "arrival"), [(14.0, "on time"), (15.0, "late"), (-20.0, "on time"), (float("nan"), None)]
)
def test_late_begins_at_fifteen_minutes_and_needs_an_arrival(delay, arrival):
    found = joined(flight(arr_delay=delay))["arrival"][0]
    assert found == arrival if arrival else pd.isna(found)


def test_a_flight_past_midnight_has_a_positive_duration():
    row = joined(flight(sched_dep_time=2359, hour=23, minute=59, sched_arr_time=344)).loc[0]
    assert row["sched_duration"] == 225
    assert row["sched_dep"] == pd.Timestamp("2013-01-01 23:59")
    assert row["flight_id"] == "20130101-2359-EWR-UA1545"


def test_a_row_keeps_its_flight_and_its_aircraft_when_rows_are_sorted():
    table = joined(
        flight(
            flight=2, tailnum="N2", hour=6, minute=0, sched_dep_time=600, time_hour=pd.Timestamp("2013-01-01 11:00")
        ),
        flight(flight=1),
    )
    assert table["flight_id"].tolist() == ["20130101-0515-EWR-UA1", "20130101-0600-EWR-UA2"]
    assert table["seats"].fillna(-1).tolist() == [149, -1]
    assert table["temp"].fillna(-1).tolist() == [39, -1]


@settings(max_examples=30)
@given(FLIGHTS, st.randoms(use_true_random=False))
def test_the_order_of_the_flights_in_the_file_does_not_matter(flights, random):
    clocks = [(at % 1440 // 60, at % 60, at // 1440 + 1) for at, *_ in flights]
    pairs = enumerate(zip(flights, clocks, strict=True))
    rows = [
        flight(
            flight=number, dep_delay=np.nan if delay is None else float(delay), tailnum=tail, origin=origin,
            carrier=carrier, hour=hour, minute=minute, day=day, sched_dep_time=hour * 100 + minute,
            time_hour=pd.Timestamp(2013, 1, day, hour),
        )
        for number, ((_, delay, tail, origin, carrier), (hour, minute, day)) in pairs
    ]  # fmt: skip
    actual = [(tail, at + delay) for at, delay, tail, *_ in flights if delay is not None and tail]
    assume(len(set(actual)) == len(actual))  # two departures of one aircraft in the same minute
    shuffled = random.sample(rows, len(rows))
    pd.testing.assert_frame_equal(joined(*rows), joined(*shuffled))
