"""Runs that are ended from outside: nobody is left, nothing is lost, the next run does the rest."""

import signal

import pytest
from project import Project, at_work_in, end_group, family, stages_run, survivors, wait_until

# A trial whose process is gone is put back once it has been silent for 20 seconds; one without a heartbeat, never.
RUNNING = "select trial_id, heartbeat from trials left join trial_heartbeats using (trial_id) where state = 'RUNNING'"

OLD_HEARTBEAT = "insert into trial_heartbeats (trial_id, heartbeat) values (?, datetime('now', '-1 hour'))"


def start_search(project: Project, trials: int):
    """`mlops run` with more trials, as soon as a trial more than before is finished, and its processes."""
    before = len(project.finished_trials())
    process = project.start("mlops", "run", "--set", f"tune.trials={trials}", "--set", "train.coverage=0.85")
    wait_until(lambda: len(project.finished_trials()) > before, 60, "a trial is finished", every=0.05)
    members = family(process)
    assert len(members) >= 4, "run, dvc, stage, kernel"
    return process, members


def nobody_is_left(project: Project, members) -> None:
    left = survivors(members, 5)
    assert left == [], [member.cmdline() for member in left]
    assert at_work_in(project.root) == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_run_that_is_told_to_end_takes_its_children_with_it(used: Project, how: signal.Signals) -> None:
    kept = used.finished_trials()
    process, members = start_search(used, 400)
    process.send_signal(how)
    out, err = process.communicate(timeout=20)
    assert process.returncode != 0, out
    assert "Traceback" not in err, err[-2000:]
    nobody_is_left(used, members)
    assert used.finished_trials()[: len(kept)] == kept


def test_after_ctrl_c_in_a_terminal_nobody_is_left(used: Project) -> None:
    process, members = start_search(used, 400)
    end_group(process, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.strip() == "Stopped. What is done is kept; go on with: mlops run"
    nobody_is_left(used, members)


def test_a_killed_run_is_finished_by_the_next_one_with_one_new_version(used: Project) -> None:
    versions = used.versions()
    process, members = start_search(used, 400)
    end_group(process, signal.SIGKILL)
    process.communicate(timeout=20)
    nobody_is_left(used, members)
    kept = used.finished_trials()
    _, *silent = used.query(".mlops/optuna.db", RUNNING)
    with used.change(".mlops/optuna.db") as connection:  # as if one was killed before its first, the others long ago
        connection.execute("delete from trial_heartbeats")
        for trial, _ in silent:
            connection.execute(OLD_HEARTBEAT, (trial,))
    wanted = len(kept) + 2
    done = used.mlops("run", "--stage", "train", "--set", f"tune.trials={wanted}")
    assert done.code == 0, done
    assert stages_run(done) == ["tune", "train"]
    assert used.finished_trials()[: len(kept)] == kept, "finished trials are kept as they were"
    assert wanted <= len(used.finished_trials()) <= wanted + 1
    assert len(used.versions()) == len(versions) + 1
    running = dict(used.query(".mlops/optuna.db", RUNNING))
    assert not {trial for trial, _ in silent} & set(running), "they went back into the queue"
    assert None not in running.values(), "it can be seen that nobody works on it"
    assert used.query("mlflow.db", "select count(*) from runs where status = 'RUNNING'") == [(0,)]
    assert used.mlops("verify").code == 0
    assert used.mlops("doctor").code in (0, 1)
    again = used.mlops("run", "--stage", "train")
    assert stages_run(again) == []
    assert len(used.versions()) == len(versions) + 1
