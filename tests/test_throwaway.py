import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tables import TASKS, make_evaluation, make_table

from mlops_core.explain import explain, load_background
from mlops_core.pipeline.throwaway import spoil_bundle
from mlops_core.serve.predictor import load_predictor


@pytest.fixture(params=TASKS)
def pair(request, bundles, tmp_path):
    """A bundle and its spoilt copy."""
    shutil.copytree(bundles[request.param], tmp_path / "bundle")
    return tmp_path / "bundle", spoil_bundle(tmp_path / "bundle", tmp_path / "spoilt")


def golden(folder):
    tree = json.loads((folder / "golden.json").read_bytes())
    return tree["columns"], tree["rows"]


def test_a_spoilt_bundle_passes_every_check_and_answers_differently(pair):
    whole, spoilt = (load_predictor(folder) for folder in pair)
    assert whole.digest != spoilt.digest
    before, after = (item.predict_columns(*golden(pair[0]))[0] for item in (whole, spoilt))
    if whole.schema.task == "regression":
        assert spoilt.constants.conformal > whole.constants.conformal
    else:
        assert not np.allclose(before, after)


def test_the_reasons_of_a_spoilt_bundle_add_up_to_its_own_answers(pair):
    predictor, background = load_predictor(pair[1]), load_background(pair[1])
    found = explain(predictor, background, background.rows[:3])
    assert found.base_value + found.contributions.sum(axis=1) == pytest.approx(found.explained)


def test_a_throwaway_registry_lies_where_it_is_told_whatever_the_environment_says(tmp_path):
    program = "import sys; from pathlib import Path; from mlops_core.pipeline.throwaway import open_registry\n"
    program += "print(open_registry(Path(sys.argv[1])).client.search_registered_models())"
    environment = {**os.environ, "MLOPS_TRACKING_URI": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
    assert (tmp_path / "mlflow.db").is_file()


REGISTER = """
import json, sys
from pathlib import Path
from mlops_core.paths import Paths
from mlops_core.pipeline.throwaway import open_registry, register_copy
from mlops_core.registry.champions import fetch_bundle
root = Path(sys.argv[1])
paths, store = Paths(root, "small"), open_registry(root)
for place in (paths.bundle, root / "elsewhere" / "bundle"):
    version = register_copy(store, paths, place)
    print(json.dumps(fetch_bundle(store, "small", version, root / f"fetched{version}")))
"""


def test_a_copy_is_registered_with_the_evaluation_that_lies_beside_it(bundles, tmp_path):
    models, data = tmp_path / "data/models/small", tmp_path / "data/processed/small"
    shutil.copytree(bundles["binary"], models / "bundle")
    (models / "evaluation.json").write_text(json.dumps(make_evaluation()), encoding="utf-8")
    spoil_bundle(models / "bundle", tmp_path / "elsewhere")
    data.mkdir(parents=True)
    make_table().to_parquet(data / "test.parquet")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/serve.txt").touch()
    command = [sys.executable, "-W", "ignore", "-c", REGISTER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    first, second = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert first["evaluation"] == make_evaluation()
    assert (second["version"], second["no_evaluation"]) == (2, "it was registered without one")
    assert "evaluation" not in second
