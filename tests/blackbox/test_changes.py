"""What runs again after a change, what is promoted, and why. What serves a model runs only where that is the point."""

import pytest
from project import Done, Project, no_traceback, stages_run


@pytest.fixture(scope="module")
def covered(used: Project) -> tuple[str, Done]:
    """`params.yaml` before a change of one training parameter, and what the run said."""
    return used.path("params.yaml").read_text(), used.mlops("run", "--set", "train.coverage=0.85")


def test_a_valid_set_changes_one_value_and_keeps_every_comment(used: Project, covered: tuple[str, Done]) -> None:
    before, done = covered
    assert done.code == 0, done
    assert "params.yaml: train.coverage: 0.9 → 0.85" in done.out
    lines = zip(before.splitlines(), used.path("params.yaml").read_text().splitlines(), strict=True)
    changed = [(old, new) for old, new in lines if old != new]
    assert [old.split("#")[1] for old, _ in changed] == [new.split("#")[1] for _, new in changed]
    assert [new.split("#")[0].strip() for _, new in changed] == ["coverage: 0.85"]


def test_a_changed_training_parameter_runs_training_and_what_serves_it(
    used: Project, covered: tuple[str, Done]
) -> None:
    _, done = covered
    assert stages_run(done) == ["train", "serve", "deploy", "frontend"]
    # Coverage moves the prediction sets and no probability, so the new version is not better.
    assert (len(used.versions()), used.champion()) == (2, 1)
    assert "is not better" in done.out
    assert "Champion: flights version 1" in done.out


def test_a_version_becomes_the_champion_exactly_when_its_loss_is_lower(used: Project) -> None:
    done = used.mlops("run", "--stage", "train", "--set", "tune.families=[boosting]")
    assert done.code == 0, done
    assert stages_run(done) == ["tune", "train"]
    assert "Champion: flights version" in done.out
    newest = used.versions()[-1][0]
    losses = dict(used.query("mlflow.db", "select version, value from model_version_tags where key = 'test_loss'"))
    better = float(losses[newest].split()[-1]) < float(losses[1].split()[-1])
    assert used.champion() == (newest if better else 1)


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


def test_going_back_to_old_parameters_restores_from_the_cache(used: Project, finished) -> None:
    versions = used.versions()
    used.path("params.yaml").write_bytes(finished[0].path("params.yaml").read_bytes())
    done = used.mlops("run")
    assert done.code == 0, done
    assert stages_run(done) == []
    assert used.versions() == versions
    names = ("data/models", "data/processed", "reports/notebooks")
    assert used.hashes(*names) == finished[0].hashes(*names)


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


def test_another_label_is_the_same_model_described_anew(used: Project) -> None:
    before = used.versions()
    used.replace("data/datasets/flights.yaml", "label: Seats}", "label: Places on board}")
    done = used.mlops("run", "--stage", "train")
    assert done.code == 0, done
    assert len(used.versions()) == len(before) + 1
    assert used.champion() == used.versions()[-1][0]
    assert "the same answers, described anew" in used.mlops("models").out
    schema = (used.path("data/models/flights/bundle") / "schema.json").read_text(encoding="utf-8")
    assert "Places on board" in schema
