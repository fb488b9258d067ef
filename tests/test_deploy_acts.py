import dataclasses

import pytest

from mlops_core.deploy import acts
from mlops_core.deploy.acts import ACTS, NoBundleError, Record, Result, describe_record, facts_of
from mlops_core.deploy.picture import release_figure
from mlops_core.deploy.proxy import BLUE, GREEN
from mlops_core.deploy.release import FAULT, Note
from mlops_core.paths import Paths
from mlops_core.serve.traffic import Seen, Traffic

GOOD, DAMAGED, _, KILLED, _ = ACTS


def answered(at, server=BLUE, status=200, ms=2.0):
    return Seen(at, ms, status, 1, {}, server)


def played(act, *notes, released=False, seen=(), place=GREEN):
    return Result(act, released, place, [Note(100.0 + i, *note) for i, note in enumerate(notes)], list(seen))


def record_of(*results, seen=()):
    return Record(list(results), Traffic(seen=list(seen) or [answered(0.1)], started=99.0))


TAKEN_OVER = played(GOOD, ("start", "", 0), ("99 %", "40 answers", 99), ("over", "", 100), released=True)
REFUSED = played(DAMAGED, ("start", "", 0), ("ready", "it is damaged", 0), ("back", "", 0))


def test_a_rehearsal_in_which_each_gate_did_its_work_has_no_problems():
    assert record_of(TAKEN_OVER, REFUSED).problems == []


def test_a_bad_version_that_took_over_is_a_problem():
    slipped = dataclasses.replace(TAKEN_OVER, act=DAMAGED)
    (problem,) = record_of(slipped).problems
    assert problem == "'damaged' was to be stopped by ready, and was by none (40 answers)"


def test_a_version_that_another_gate_stopped_is_a_problem():
    (problem,) = record_of(dataclasses.replace(REFUSED, act=KILLED)).problems
    assert problem == "'killed' was to be stopped by 50 %, and was by ready (it is damaged)"


def test_a_good_version_that_was_refused_is_a_problem():
    (problem,) = record_of(dataclasses.replace(REFUSED, act=GOOD)).problems
    assert problem == "'good' was to be stopped by no gate, and was by ready (it is damaged)"


@pytest.mark.parametrize("status", [0, 502, 503, 401])
def test_a_single_failed_request_is_a_problem_even_between_the_acts(status):
    record = record_of(TAKEN_OVER, seen=[answered(0.1), answered(0.2, status=status)])
    assert record.problems == ["1 requests failed"]
    assert "1 failed" in describe_record(record)


def test_two_answers_to_one_question_are_a_problem():
    other = dataclasses.replace(answered(0.2), prediction={"label": "late"})
    assert record_of(TAKEN_OVER, seen=[answered(0.1), other]).problems == ["one question got 2 different answers"]


def test_recovery_is_counted_from_the_fault_to_the_end_of_its_traffic():
    result = played(KILLED, ("10 %", "", 10), (FAULT, "", 50), ("50 %", "", 50), ("back", "", 0))
    assert result.seconds_to_recover == 2
    assert REFUSED.seconds_to_recover == 0


def test_an_act_is_told_by_who_decided_and_what_callers_noticed():
    seen = [answered(1, BLUE, ms=1), answered(2, GREEN, ms=4), answered(3, GREEN, 502, ms=9)]
    facts = facts_of(dataclasses.replace(REFUSED, seen=seen))
    assert (facts["outcome"], facts["decided at"], facts["because"]) == ("refused", "ready", "it is damaged")
    assert (facts["requests"], facts["failed"], facts["by the new one"]) == ("3", "1", "2")
    assert (facts["half within, ms"], facts["all within, ms"]) == ("4.0", "9")


def test_the_picture_s_titles_count_what_failed():
    in_place = Traffic(seen=[answered(0.1, ""), Seen(0.3, 0.0, 0, 0, {}), answered(0.6, "")])
    figure = release_figure(in_place, record_of(TAKEN_OVER, REFUSED))
    above, below = (axes.get_title(loc="left") for axes in figure.axes)
    assert above == "Replaced in place: 1 of 3 requests fail"
    assert below == "2 releases behind gates, 1 of them refused: none of 1 requests fail"


def test_without_a_rehearsal_the_picture_claims_none():
    (axes,) = release_figure(Traffic(seen=[answered(0.1, "")]), None).axes
    assert axes.get_title(loc="left") == "Replaced in place: 0 of 1 requests fail"


def test_without_a_trained_model_the_command_that_trains_one_is_named(tmp_path):
    with pytest.raises(NoBundleError, match=r"'small' to release\. Train one first: mlops run"):
        acts.open_ground(Paths(tmp_path, "small"))
