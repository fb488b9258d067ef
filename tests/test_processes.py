import signal
import subprocess
import sys
import time

import psutil
import pytest

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""
TIED = "from mlops_core.processes import end_with_parent; end_with_parent(); "
CHILD = "print('ready', flush=True); import time; time.sleep(60)"


def is_running(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize(("first", "outlives"), [(TIED, False), ("", True)])
def test_a_process_ends_when_its_parent_is_killed_only_if_it_asked_to(first, outlives):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, first + CHILD], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    try:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
        deadline = time.monotonic() + (0.3 if outlives else 10)
        while is_running(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert is_running(child) == outlives
    finally:
        if is_running(child):
            child.kill()
