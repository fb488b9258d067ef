"""What is asked for wrongly ends at once, in one line, with exit code 2, and starts nothing."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from project import Project, at_work_in, no_traceback, stages_run

FLIGHTS = "data/source/nycflights13/flights.parquet"
COMMANDS = ("run", "score", "models", "verify", "doctor")


@pytest.fixture(scope="module")
def asked(sources: Project, copier) -> Project:
    """A project for questions that must not change it."""
    return copier(sources)


def refuses(project: Project, *arguments: str, says: tuple[str, ...]) -> None:
    before = project.hashes("params.yaml", "data", "notebooks", "dvc.yaml")
    done = project.mlops(*arguments, timeout=30)
    assert done.code == 2, done
    no_traceback(done.err)
    for words in says:
        assert words in done.err, done
    assert done.out == "", "something was started"
    assert at_work_in(project.root) == [], "a process is left"
    assert not project.path("reports/notebooks").exists()
    assert project.hashes("params.yaml", "data", "notebooks", "dvc.yaml") == before, "a refused request changed files"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("--set", "tune.trails=5"), ("tune.trails", "Did you mean 'tune.trials'?"), id="misspelt key"),
        pytest.param(
            ("--set", "tunee.trials=5"), ("tunee.trials", "Did you mean 'tune.trials'?"), id="misspelt section"
        ),
        pytest.param(("--set", "tune.trials=many"), ("tune.trials", "'many'"), id="text for a number"),
        pytest.param(("--set", "tune.trials=2.5"), ("tune.trials", "2.5"), id="fraction for a count"),
        pytest.param(("--set", "tune.trials=true"), ("tune.trials", "True"), id="yes for a count"),
        pytest.param(("--set", "tune.trials=0"), ("tune.trials", "0"), id="no trials"),
        pytest.param(("--set", "train.coverage=1.5"), ("train.coverage", "1.5"), id="coverage above one"),
        pytest.param(("--set", "tune.families=[forest]"), ("tune.families", "forest"), id="unknown family"),
        pytest.param(("--set", "tune=5"), ("tune",), id="a number for a section"),
        pytest.param(("--set", "tune.trials"), ("tune.trials", "tune.trials=5"), id="no equals sign"),
        pytest.param(("--set", "tune.trials="), ("tune.trials",), id="nothing after the equals sign"),
        pytest.param(("--set", "tune.trials=[1"), ("tune.trials",), id="broken value"),
        pytest.param(("--set", "=5"), ("Parameter",), id="no key"),
        pytest.param(("--dataset", "flihgts"), ("flihgts", "Did you mean 'flights'?"), id="unknown dataset"),
        pytest.param(("--dataset", "../flights"), ("../flights",), id="a path for a dataset"),
        pytest.param(("--stage", "trian"), ("trian", "Did you mean 'train'?"), id="unknown stage"),
    ],
)
def test_a_wrong_request_ends_in_one_line_that_names_the_fix(
    asked: Project, arguments: tuple[str, ...], says: tuple[str, ...]
) -> None:
    refuses(asked, "run", *arguments, says=says)


def test_outside_a_checkout_one_line_says_so(tmp_path: Path) -> None:
    done = Project(tmp_path).mlops("run")
    assert done.code == 2, done
    no_traceback(done.err)
    assert "dvc.yaml" in done.err


def test_a_missing_source_file_is_named(unrun: Project) -> None:
    unrun.path(FLIGHTS).unlink()
    refuses(unrun, "run", says=("flights.parquet", "missing", "git checkout data/source"))


def test_a_changed_source_file_is_refused_though_its_size_is_the_same(unrun: Project) -> None:
    data = bytearray(unrun.path(FLIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    unrun.path(FLIGHTS).write_bytes(data)
    refuses(unrun, "run", says=("flights.parquet", "sha256"))


@pytest.mark.parametrize("kept", [0, 1000], ids=["empty", "truncated"])
def test_half_a_source_file_is_refused(unrun: Project, kept: int) -> None:
    unrun.path(FLIGHTS).write_bytes(unrun.path(FLIGHTS).read_bytes()[:kept])
    refuses(unrun, "run", says=("flights.parquet", "sha256"))


def test_a_source_file_that_is_a_link_is_refused(unrun: Project) -> None:
    unrun.path(FLIGHTS).rename(unrun.path("elsewhere.parquet"))
    unrun.path(FLIGHTS).symlink_to(unrun.path("elsewhere.parquet"))
    refuses(unrun, "run", says=("flights.parquet", "not a plain file"))


def test_a_feature_that_is_known_too_late_is_refused(unrun: Project) -> None:
    unrun.replace("data/datasets/flights.yaml", "dep_delay: {role: ignore", "dep_delay: {role: feature")
    refuses(unrun, "run", says=("dep_delay", "0h", "ignore"))


def test_a_column_role_that_does_not_exist_is_refused(unrun: Project) -> None:
    unrun.replace("data/datasets/flights.yaml", "dep_delay: {role: ignore", "dep_delay: {role: ignroe")
    refuses(unrun, "run", says=("flights", "dep_delay.role"))


@pytest.mark.parametrize("name", ["params.yaml", "data/datasets/flights.yaml"])
@pytest.mark.parametrize(
    "text",
    ["dataset: [flights\nseed", "", "just words", "- a\n- list\n", "\x00", "a: &a [*a]\n"],
    ids=["broken", "empty", "words", "list", "zero byte", "loop"],
)
def test_a_damaged_yaml_file_is_named_in_one_line(unrun: Project, name: str, text: str) -> None:
    unrun.write(name, text)
    refuses(unrun, "run", says=("params.yaml" if name == "params.yaml" else "flights",))


def test_a_yaml_file_that_is_not_utf_8_is_named_in_one_line(unrun: Project) -> None:
    unrun.path("params.yaml").write_bytes("dataset: flüge\n".encode("latin1"))
    refuses(unrun, "run", says=("params.yaml",))


def test_a_section_that_is_missing_from_params_is_named(unrun: Project) -> None:
    text = unrun.path("params.yaml").read_text()
    unrun.write("params.yaml", text[: text.index("train:")])
    refuses(unrun, "run", says=("train",))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cells": 5}'], ids=["empty", "cut", "list", "none", "number"])
def test_a_damaged_notebook_is_named_before_anything_runs(unrun: Project, text: str) -> None:
    unrun.write("notebooks/04_track.ipynb", text)
    done = unrun.mlops("run", timeout=60)
    assert done.code in (1, 2), done
    assert stages_run(done) == []
    no_traceback(done.err)
    assert "04_track.ipynb" in done.err
    assert "git checkout" in done.err


def test_a_missing_notebook_is_named_before_anything_runs(unrun: Project) -> None:
    unrun.path("notebooks/04_track.ipynb").unlink()
    done = unrun.mlops("run", timeout=60)
    assert done.code in (1, 2), done
    assert stages_run(done) == []
    no_traceback(done.err)
    assert "04_track.ipynb" in done.err


def test_without_a_champion_scoring_says_how_to_get_one(unrun: Project, tmp_path: Path) -> None:
    table = pq.read_table(unrun.path(FLIGHTS)).slice(0, 5)
    pq.write_table(table, tmp_path / "in.parquet")
    done = unrun.mlops("score", str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"))
    assert done.code == 2, done
    no_traceback(done.err)
    assert "champion" in done.err
    assert "mlops run" in done.err
    assert not (tmp_path / "out.parquet").exists()


def test_an_empty_registry_says_how_to_fill_it(unrun: Project) -> None:
    done = unrun.mlops("models")
    assert done.code == 0, done
    assert "mlops run" in done.out


def test_help_lists_every_command(asked: Project) -> None:
    done = asked.mlops("--help")
    assert done.code == 0, done
    for command in COMMANDS:
        assert f" {command} " in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(asked: Project, command: str) -> None:
    done = asked.mlops(command, "--help")
    assert done.code == 0, done
    assert "Usage:" in done.out
    assert len(done.out.split("Options")[0].strip().splitlines()) >= 2, "it says what it does"


def test_an_unknown_command_is_refused(asked: Project) -> None:
    done = asked.mlops("rnu")
    assert done.code == 2, done
    assert "Traceback" not in done.err
    assert "rnu" in done.err
