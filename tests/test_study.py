import subprocess
import sys

import pytest
from tables import make_params, make_spec

from mlops_core.tune.study import ASKED_OF, study_name

TAKE = """
import sys, optuna
from mlops_core.tune.storage import open_storage
study = optuna.load_study(study_name="s", storage=open_storage(sys.argv[1]))
print(flush=True)
sys.stdin.readline()
print(*(study.ask().number for _ in range(30)))
"""
MAKE = """
import sys, optuna
from mlops_core.tune.storage import open_storage
study = optuna.create_study(study_name="s", storage=open_storage(sys.argv[1]))
for number in range(60):
    study.enqueue_trial({"x": number})
"""


def test_no_trial_that_waits_is_taken_by_two_workers(tmp_path):
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    subprocess.run([sys.executable, "-c", MAKE, url], check=True, stderr=subprocess.DEVNULL)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    workers = [subprocess.Popen([sys.executable, "-c", TAKE, url], **pipes) for _ in range(3)]
    for worker in workers:
        worker.stdout.readline()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    taken = [int(number) for worker in workers for number in worker.communicate()[0].split()]
    assert sorted(taken) == list(range(90))


def test_a_study_goes_on_for_the_same_question_alone(tmp_path):
    spec = make_spec()
    for name in ASKED_OF:
        (tmp_path / name).write_bytes(name.encode())
    first = study_name(make_params(), spec, tmp_path)
    assert study_name(make_params(tune={"trials": 9, "seconds": 99, "workers": 2}), spec, tmp_path) == first
    assert study_name(make_params(tune={"folds": 4}), spec, tmp_path) != first
    assert study_name(make_params(seed=8), spec, tmp_path) != first
    grouped = {**spec.columns, "kind": spec.columns["kind"].model_copy(update={"role": "group"})}
    assert study_name(make_params(), spec.model_copy(update={"columns": grouped}), tmp_path) != first


@pytest.mark.parametrize("changed", ASKED_OF)
def test_other_rows_or_features_are_another_question(tmp_path, changed):
    for name in ASKED_OF:
        (tmp_path / name).write_bytes(name.encode())
    first = study_name(make_params(), make_spec(), tmp_path)
    (tmp_path / changed).write_bytes(b"other")
    assert study_name(make_params(), make_spec(), tmp_path) != first
