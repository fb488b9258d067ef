"""What runs again after a change, what is promoted, and why."""

import pytest
from project import Project, before_serving, no_traceback, stages_run


def test_a_valid_set_changes_one_value_and_keeps_every_comment(used: Project) -> None:
    before = used.path("params.yaml").read_text()
    done = used.mlops("run", "--set", "tune.trials=6")
    assert done.code == 0, done
    assert "params.yaml: tune.trials: 4 → 6" in done.out
    lines = zip(before.splitlines(), used.path("params.yaml").read_text().splitlines(), strict=True)
    changed = [(old, new) for old, new in lines if old != new]
    assert [old.split("#")[1] for old, _ in changed] == [new.split("#")[1] for _, new in changed]
    assert [new.split("#")[0].strip() for _, new in changed] == ["trials: 6"]
    assert before_serving(done) == ["tune", "train"]


def test_more_trials_add_to_those_that_are_done(used: Project, finished) -> None:
    kept = finished[0].finished_trials()
    assert len(kept) == 4
    assert used.finished_trials()[:4] == kept
    assert len(used.finished_trials()) == 6


def test_a_changed_training_parameter_runs_training_and_what_serves_it(used: Project) -> None:
    before, champion = used.versions(), used.champion()
    done = used.mlops("run", "--set", "train.coverage=0.85")
    assert done.code == 0, done
    assert stages_run(done) == ["train", "serve", "deploy", "frontend"]
    assert len(used.versions()) == len(before) + 1
    # Coverage moves the prediction sets and no probability, so the new version is not better.
    assert used.champion() == champion
    assert "is not better" in done.out
    assert f"Champion: flights version {champion}" in done.out


def test_the_registry_is_listed_with_the_reason_of_the_champion(used: Project) -> None:
    done = used.mlops("models")
    assert done.code == 0, done
    lines = done.out.strip().splitlines()
    assert len(lines) == len(used.versions())
    marked = [line for line in lines if " champion " in line]
    assert len(marked) == 1
    assert f" {used.champion()} " in marked[0]
    assert "first version" in marked[0] or "test log loss" in marked[0]
    assert all("log_loss" in line for line in lines)


def test_a_version_becomes_the_champion_exactly_when_its_loss_is_lower(used: Project) -> None:
    previous = used.champion()
    done = used.mlops("run", "--set", "tune.families=[logistic]")
    assert done.code == 0, done
    assert before_serving(done) == ["tune", "train"]
    newest = used.versions()[-1][0]
    losses = dict(used.query("mlflow.db", "select version, value from model_version_tags where key = 'test_loss'"))
    better = float(losses[newest].split()[-1]) < float(losses[previous].split()[-1])
    assert used.champion() == (newest if better else previous)
    assert "has" in done.out
    assert ("is not better" in done.out) is not better


def test_going_back_to_old_parameters_restores_from_the_cache(used: Project, finished) -> None:
    versions = used.versions()
    used.path("params.yaml").write_bytes(finished[0].path("params.yaml").read_bytes())
    done = used.mlops("run")
    assert done.code == 0, done
    assert stages_run(done) == []
    assert used.versions() == versions
    names = ("data/models", "data/processed", "reports/notebooks")
    assert used.hashes(*names) == finished[0].hashes(*names)


def test_another_label_is_the_same_model_described_anew(used: Project) -> None:
    before = used.versions()
    used.replace("data/datasets/flights.yaml", "label: Seats}", "label: Places on board}")
    done = used.mlops("run")
    assert done.code == 0, done
    assert len(used.versions()) == len(before) + 1
    assert used.champion() == used.versions()[-1][0]
    assert "the same answers, described anew" in done.out
    schema = (used.path("data/models/flights/bundle") / "schema.json").read_text(encoding="utf-8")
    assert "Places on board" in schema


@pytest.mark.parametrize("change", ["dataset: flights  # the same", "dataset:   flights"])
def test_a_change_of_a_comment_runs_nothing(used: Project, change: str) -> None:
    line = next(line for line in used.path("params.yaml").read_text().splitlines() if line.startswith("dataset:"))
    used.replace("params.yaml", line, change)
    done = used.mlops("run")
    assert done.code == 0, done
    assert stages_run(done) == []


def test_a_misspelt_parameter_leaves_a_finished_project_alone(used: Project) -> None:
    before = used.hashes()
    done = used.mlops("run", "--set", "tune.trails=5")
    assert done.code == 2, done
    no_traceback(done.err)
    assert used.hashes() == before
