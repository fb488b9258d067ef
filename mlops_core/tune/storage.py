"""The database that a study's processes share, and what becomes of the trials of those that died."""

import warnings
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy import event, text

from mlops_core.database import sqlite_file

HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 20
BUSY_SECONDS = 60


def open_storage(url: str) -> RDBStorage:
    """With a heartbeat: a trial whose process died is put back into the queue.

    On SQLite every transaction starts as a writer. Python's module would begin one at the first write only, and two
    workers that had both read that a trial waits would both take it.
    """
    file = sqlite_file(url)
    engine: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS, "isolation_level": None}} if file else {}
    with warnings.catch_warnings():
        # Experimental since 2.8 in name only; the alternative is a trial that stays RUNNING for ever.
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = RDBStorage(
            url,
            engine_kwargs=engine,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=3),
        )
    if file:
        event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


# Optuna takes a trial for dead when its heartbeat is old, and never looks at one that was killed before its first.
WITHOUT_HEARTBEAT = """
    SELECT trial_id FROM trials JOIN studies USING (study_id)
    WHERE study_name = :study AND state = 'RUNNING' AND trial_id NOT IN (SELECT trial_id FROM trial_heartbeats)
"""


def end_stale_trials(study: optuna.Study, storage: RDBStorage) -> None:
    """Trials whose process died go back into the queue; nothing stays RUNNING for ever.

    A trial without a heartbeat gets one, and is ended by a later look unless it goes on.
    """
    with storage.engine.connect() as connection:
        silent = connection.execute(text(WITHOUT_HEARTBEAT), {"study": study.study_name}).scalars().all()
    for trial_id in silent:
        storage.record_heartbeat(trial_id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # the same as in open_storage
        optuna.storages.fail_stale_trials(study)
