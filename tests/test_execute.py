import pytest
from papermill.exceptions import PapermillExecutionError

from mlops_core.pipeline.execute import _cause


@pytest.mark.parametrize(
    ("name", "traceback", "said"),
    [
        ("TableError", ["File mlops_core/preprocess.py"], "No rows are left."),
        ("ValueError", ["File mlops_core/preprocess.py"], "ValueError: No rows are left."),
        ("SomeError", ["File site-packages/other.py"], "SomeError: No rows are left."),
    ],
)
def test_our_own_errors_need_no_name_and_all_others_do(name, traceback, said):
    error = PapermillExecutionError(0, 1, "", name, "No rows are left.", traceback)
    assert _cause(error, None) == said
