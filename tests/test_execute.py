import subprocess
import sys

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


def test_no_stage_compiles_the_grammar_of_iris():
    look = "import sys, mlops_core.pipeline.execute, jsonschema; print('lark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
