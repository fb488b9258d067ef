import subprocess
import sys

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
