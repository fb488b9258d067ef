import subprocess
import sys

import pytest
from tables import TASKS

CHECK = """
import sys
from pathlib import Path
from mlflow.models.utils import _enforce_schema
from mlops_core.registry.versions import example_of, signature_of
from mlops_core.serve.predictor import read_schema_json
schema = read_schema_json(Path(sys.argv[1]))
print(*_enforce_schema(example_of(schema), signature_of(schema).inputs).columns)
"""


@pytest.mark.parametrize("task", TASKS)
def test_the_registered_example_fits_the_registered_signature(bundles, task):
    command = [sys.executable, "-c", CHECK, str(bundles[task])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.returncode) == (["at", "amount", "count", "kind", "gate", "open"], 0), done.stderr
