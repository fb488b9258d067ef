from typing import get_args

import pytest

from mlops_core.frontend.client import KINDS, SIGN_IN_KINDS, ApiError, Kind
from mlops_core.frontend.failures import WAITING, WORDS, notice_of


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_failure_has_words_and_an_advice(kind):
    notice = notice_of(ApiError(kind, reference="r1"))
    assert notice.title.endswith(".")
    assert notice.advice.endswith(".")
    assert notice.reference == "r1"
    assert notice.waits == (kind in WAITING)


def test_no_words_are_left_over():
    assert set(WORDS) == set(get_args(Kind))
    assert set(KINDS.values()) | set(SIGN_IN_KINDS.values()) <= set(WORDS)


def test_what_the_service_says_of_an_entry_is_repeated_and_of_its_inside_not():
    assert notice_of(ApiError("invalid", "The table holds no rows.")).title == "The table holds no rows."
    assert "secret" not in notice_of(ApiError("broken", "secret detail")).title


def test_who_must_wait_is_told_how_long():
    assert "Wait 17 seconds" in notice_of(ApiError("busy", wait_seconds=17)).advice
