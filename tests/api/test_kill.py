"""`kill -9` of the service under load: what was answered before the last interval is in the log, whole and once."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from logged import CALLERS, Load, Told, check_same, stored, wait_until_written
from server import running

from api.prediction_log import FLUSH_SECONDS

# Besides the interval itself: the turn of a thread on a busy machine, and writing what had gathered.
MARGIN_SECONDS = 0.25


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_kill_9_loses_at_most_what_was_answered_in_the_last_interval(
    project: Path, make_database: Callable[[str], str], backend: str
) -> None:
    """Three times in a row, at different moments of the interval; each start takes over what the one before left."""
    url, all_told = make_database(backend), list[Told]()
    for seconds in (0.4, 1.0, 1.6 + FLUSH_SECONDS / 2):
        with running(project, "/readyz", MLOPS_PREDICTION_LOG_URL=url) as server:
            load = Load(server)
            load.start()
            time.sleep(seconds)
            killed = time.time()
            server.end()
            load.stop()
        with running(project, "/readyz", MLOPS_PREDICTION_LOG_URL=url) as server:
            wait_until_written(server)
        found, all_told = stored(url), [*all_told, *load.told]
        missing = [told for told in load.told if told.batch not in found]
        lost = max((killed - told.at for told in missing), default=0.0)
        print(
            f"killed after {seconds:.2f} s: {len(load.told)} answers, {len(missing)} of them not in the log, "
            f"the oldest {lost * 1000:.0f} ms old"
        )
        assert load.refused == []
        assert lost <= FLUSH_SECONDS + MARGIN_SECONDS
        for told in all_told:
            if told.batch in found:
                check_same(told, found[told.batch])
    unheard = set(found) - {told.batch for told in all_told}
    assert len(unheard) <= 3 * len(CALLERS), "more than the answers that the kill cut on their way"
