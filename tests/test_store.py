import subprocess
import sys

OPEN = """
import sys
from pathlib import Path
from mlops_core.registry.store import open_store
from mlops_core.settings import Settings
root = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
open_store(root, Settings(tracking_uri=f"sqlite:///{root / 'mlflow.db'}"))
"""


def test_processes_that_open_a_fresh_store_at_once_all_find_it_whole(tmp_path):
    command = [sys.executable, "-c", OPEN, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(3)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert [code for _, code in ended] == [0, 0, 0], ended
