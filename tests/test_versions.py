import subprocess
import sys

from tables import TASKS

CHECK = """
import sys
from pathlib import Path
from mlflow.models.utils import _enforce_schema
from mlops_core.registry.versions import example_of, signature_of
from mlops_core.serve.predictor import read_schema_json
for folder in sys.argv[1:]:
    schema = read_schema_json(Path(folder))
    print(*_enforce_schema(example_of(schema), signature_of(schema).inputs).columns)
"""


def test_the_registered_example_fits_the_registered_signature(bundles):
    command = [sys.executable, "-c", CHECK, *(str(bundles[task]) for task in TASKS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.splitlines(), done.returncode) == (["at amount count kind gate open"] * len(TASKS), 0), (
        done.stderr
    )
