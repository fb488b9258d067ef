"""A release acted out by the commands that people type, in a project of its own."""

import json

import pytest
from project import Project, at_work_in

from mlops_core.deploy.proxy import find_haproxy

pytestmark = pytest.mark.skipif(not find_haproxy(), reason="there is no haproxy on this machine")
NEVER_ASKED = ("a byte of its model was changed", "it was started with another secret")


@pytest.fixture(scope="module")
def told(used: Project) -> list[str]:
    """What `mlops rehearse` says, act by act."""
    done = used.mlops("rehearse")
    assert (done.code, done.err) == (0, ""), done
    return done.out.split("\n\n")


def test_a_good_version_takes_over_the_bad_ones_are_refused_and_no_request_fails(told: list[str]) -> None:
    *acts, summary = told
    assert len(acts) == 5
    assert "5 releases: 1 took over, 4 were refused." in summary
    assert summary.rstrip().endswith("none failed.")
    assert "green serves, blue has finished what it had and ended with 0" in acts[0]
    assert all("refused: green serves on, blue is gone" in act for act in acts[1:])
    assert all(" 0 failed" in act for act in acts)


def test_who_is_refused_at_once_is_never_asked_by_a_caller(told: list[str]) -> None:
    found = [act for act in told if any(what in act for what in NEVER_ASKED)]
    assert len(found) == 2
    assert all(" 0 answered by the new one" in act for act in found)


def test_who_is_killed_or_hangs_had_traffic_and_has_none_left(told: list[str]) -> None:
    killed, hanging = (act for act in told if "gets SIG" in act)
    assert " 0 answered by the new one" not in killed
    assert " 0 answered by the new one" not in hanging
    # A broken connection counts at once, the third one marks it down: either may be seen first. Who hangs breaks none.
    assert "the proxy finds it down" in killed or "requests failed there, beside" in killed
    assert "the proxy finds it down" in hanging


def test_nothing_is_left_of_a_rehearsal(used: Project, told: list[str]) -> None:
    assert told
    assert at_work_in(used.root) == []
    assert used.git("status", "--porcelain", "mlops_core", "deploy", "notebooks").out == ""


def test_without_a_model_it_says_what_to_run_first(unrun: Project) -> None:
    done = unrun.mlops("rehearse")
    assert done.code == 2, done
    assert done.lines == ["There is no trained model of 'flights' to release. Train one first: mlops run"]


def test_the_stage_plays_the_same_acts_and_writes_what_came_of_them(used: Project) -> None:
    done = used.mlops("run", "--stage", "deploy", "--set", "deploy.rehearse=true")
    assert done.code == 0, done
    metrics = json.loads(used.path("reports/metrics/deploy.json").read_text())
    shares = {"good": 100, "damaged": 0, "secret": 0, "killed": 50, "hanging": 50}
    assert (metrics["rehearsed"], metrics["failed_requests"], metrics["largest_share"]) == (1, 0, shares)
    assert (metrics["taken_over"], metrics["refused"]) == (1, 4)
    assert used.path("reports/figures/release.png").stat().st_size > 10_000


def test_where_it_is_not_wanted_the_stage_claims_nothing(finished) -> None:
    project, _ = finished
    metrics = json.loads(project.path("reports/metrics/deploy.json").read_text())
    assert (metrics["rehearsed"], metrics["releases"], metrics["largest_share"]) == (0, 0, {})
    notebook = json.loads(project.path("reports/notebooks/09_deploy.ipynb").read_text())
    (learned,) = [
        "".join(output["data"]["text/markdown"])
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    ]
    assert "nothing is claimed of them" in learned
    assert "of them refused" not in learned
