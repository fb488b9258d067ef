"""What is special about the flights: the joins, the definition of late, and how late things were running.

"How late" is known two hours before a flight's scheduled departure and counted by *actual* departures: a flight
that was due at noon and left at three tells nothing at one. All clocks here are minutes in UTC, so that the night
when the clocks change is an hour long like any other.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

LATE_FROM = 15  # minutes after schedule, the definition of the US Bureau of Transportation Statistics
KNOWN_BEFORE = 120  # minutes before the scheduled departure at which the question is asked
LOOK_BACK = 300
GIVEN_UP_AFTER = 180  # an overdue flight that has not left by then counts as cancelled
SAME_ROTATION = 16 * 60

Floats = npt.NDArray[np.float64]


def scheduled_minutes(flights: pd.DataFrame) -> Floats:
    """Scheduled departures in minutes UTC since 1970."""
    hours = flights["time_hour"].astype("datetime64[s]").to_numpy().astype("int64") // 60
    return (hours + flights["minute"].to_numpy(dtype="int64")).astype("float64")


def recent_departures(scheduled: Floats, delay: Floats, asked: Floats) -> pd.DataFrame:
    """Number, mean delay and share of late ones among departures that really left in the window before `asked`.

    `scheduled` (minutes) and `delay` (minutes, NaN for a flight that never left) describe one airport's flights;
    `asked` holds the scheduled departures of the flights in question. An empty window has no mean.
    """
    left = ~np.isnan(delay)
    actual = scheduled[left] + delay[left]
    order = np.argsort(actual, kind="stable")
    actual, delays = actual[order], delay[left][order]
    sums = np.concatenate([[0.0], np.cumsum(delays)])
    late = np.concatenate([[0.0], np.cumsum(delays >= LATE_FROM)])
    last = np.searchsorted(actual, asked - KNOWN_BEFORE, side="right")
    first = np.searchsorted(actual, asked - LOOK_BACK, side="right")
    count = (last - first).astype("float64")
    some = np.where(count > 0, count, np.nan)
    return pd.DataFrame(
        {
            "departures": count,
            "mean_delay": (sums[last] - sums[first]) / some,
            "share_late": (late[last] - late[first]) / some,
        }
    )


def overdue_flights(scheduled: Floats, delay: Floats, asked: Floats) -> Floats:
    """How many flights should have left by two hours before `asked`, and have not."""
    # Whether a flight that is given up still leaves is not known yet: both kinds end at the same minute.
    ended = scheduled + np.clip(np.where(np.isnan(delay), GIVEN_UP_AFTER, delay), 0, GIVEN_UP_AFTER)
    known = asked - KNOWN_BEFORE
    due = np.searchsorted(np.sort(scheduled), known, side="right")
    gone = np.searchsorted(np.sort(ended), known, side="right")
    return (due - gone).astype("float64")


def last_delay_of_aircraft(tailnum: pd.Series, scheduled: Floats, delay: Floats) -> Floats:
    """The delay of the same aircraft's last departure known at the prediction, NaN where there is none."""
    frame = pd.DataFrame(
        {"tailnum": tailnum.to_numpy(), "known": scheduled - KNOWN_BEFORE, "at": scheduled + delay, "delay": delay}
    )
    left = frame.dropna(subset=["tailnum", "at"]).sort_values("at", kind="stable")[["tailnum", "at", "delay"]]
    asked = frame.dropna(subset=["tailnum"]).sort_values("known", kind="stable")
    found = pd.merge_asof(
        asked[["tailnum", "known"]], left, left_on="known", right_on="at", by="tailnum", tolerance=SAME_ROTATION
    )
    result = np.full(len(frame), np.nan)
    result[asked.index] = found["delay"].to_numpy()
    return result


def add_running_late(table: pd.DataFrame, flights: pd.DataFrame) -> pd.DataFrame:
    """`table` with how late its airport, its airline there and its aircraft were, as known two hours before."""
    scheduled = scheduled_minutes(flights)
    delay = flights["dep_delay"].to_numpy(dtype="float64")
    columns = {
        name: np.full(len(table), np.nan) for name in ("departures", "mean_delay", "share_late", "overdue", "carrier")
    }
    for rows in flights.groupby("origin").indices.values():
        recent = recent_departures(scheduled[rows], delay[rows], scheduled[rows])
        for name in recent:
            columns[name][rows] = recent[name]
        columns["overdue"][rows] = overdue_flights(scheduled[rows], delay[rows], scheduled[rows])
    for rows in flights.groupby(["origin", "carrier"]).indices.values():
        columns["carrier"][rows] = recent_departures(scheduled[rows], delay[rows], scheduled[rows])["mean_delay"]
    return table.assign(
        origin_departures=columns["departures"],
        origin_mean_delay=columns["mean_delay"],
        origin_share_late=columns["share_late"],
        origin_overdue=columns["overdue"],
        carrier_mean_delay=columns["carrier"],
        aircraft_last_delay=last_delay_of_aircraft(flights["tailnum"], scheduled, delay),
    )


def join(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per flight, in the order of its scheduled departure; `arrival` is missing where it never arrived."""
    flights = tables["flights"]
    flights = flights.assign(at=scheduled_minutes(flights)).sort_values(
        ["at", "origin", "carrier", "flight"], ignore_index=True
    )
    day = pd.to_datetime(flights[["year", "month", "day"]].astype("int64")).astype("datetime64[s]")
    minutes = (flights["hour"] * 60 + flights["minute"]).astype("int64")
    arrives = (flights["sched_arr_time"] // 100 * 60 + flights["sched_arr_time"] % 100).astype("int64")
    clock = flights["sched_dep_time"].astype("str").str.zfill(4)
    late = np.where(flights["arr_delay"] >= LATE_FROM, "late", "on time")
    table = pd.DataFrame(
        {
            "flight_id": day.dt.strftime("%Y%m%d-")
            + clock
            + "-"
            + flights["origin"]
            + "-"
            + flights["carrier"]
            + flights["flight"].astype("str"),
            "sched_dep": day + pd.to_timedelta(minutes, unit="min"),
            "arrival": pd.Series(late, dtype="str").where(flights["arr_delay"].notna()),
            "sched_duration": ((arrives - minutes) % 1440).astype("float64"),
            **{name: flights[name] for name in ("carrier", "origin", "dest", "distance", "dep_delay", "air_time")},
        }
    )
    table = add_running_late(table, flights)
    planes = (
        tables["planes"]
        .set_index("tailnum")
        .rename(columns={"year": "plane_year"})[["plane_year", "seats"]]
        .astype("float64")
    )
    weather = tables["weather"].set_index(["origin", "time_hour"]).drop(columns=["year", "month", "day", "hour"])
    aircraft = planes.reindex(flights["tailnum"]).reset_index(drop=True)
    sky = weather.reindex(pd.MultiIndex.from_frame(flights[["origin", "time_hour"]])).reset_index(drop=True)
    return pd.concat([table, aircraft, sky], axis=1)


SHOWN = recent_departures
