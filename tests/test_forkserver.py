"""Forks of a warm process behave as processes that were started anew; nobody is left when the run ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mlops_core.forkserver import LARGEST, LIBRARIES, PRELOADED, TOOLS, VARIABLE, ask_for_fork, forking

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")

# What the forks call. They find it as any module: by PYTHONPATH, which the warm process had when it started.
CALLS = """
import os, sys, threading, time

def tell():
    alone = os.getpid() == os.getsid(0)
    print(sys.argv, os.getcwd(), os.environ.get("COLOUR"), sys.stdin.read() == "", alone, flush=True)
    print("to stderr", file=sys.stderr)

def random():
    import random, numpy
    print(random.random(), numpy.random.rand())

def loaded():
    print(" ".join(sorted(sys.modules)))

def leave():
    sys.exit(int(sys.argv[-1]))

def complain():
    sys.exit("no such thing")

def fail():
    raise ValueError("no good")

def wait():
    time.sleep(60)

def die():
    os.kill(os.getpid(), 9)

def compute():
    import numpy, onnxruntime, subprocess
    from sklearn.ensemble import HistGradientBoostingClassifier
    x = numpy.random.default_rng(0).normal(size=(20_000, 10))
    HistGradientBoostingClassifier(max_iter=20).fit(x @ x[:10], x[:, 0] > 0)
    done = [threading.Thread(target=numpy.linalg.svd, args=(x[:500],)) for _ in range(2)]
    [thread.start() for thread in done], [thread.join() for thread in done]
    print(subprocess.run(["sh", "-c", "exit 3"]).returncode)
"""
OWNER = """
import os, subprocess, sys, time
from pathlib import Path
from mlops_core.forkserver import ask_for_fork, forking
with forking(os.environ, Path(sys.argv[1])) as env:
    os.environ.update(env)
    print(ask_for_fork("calls:wait", [], os.environ).pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """An environment in which forks are to be had."""
    folder = tmp_path_factory.mktemp("calls")
    (folder / "calls.py").write_text(CALLS)
    with forking({**os.environ, "PYTHONPATH": str(folder)}, tmp_path_factory.mktemp("run") / "forks") as env:
        assert ask_for_fork("calls:tell", [], env) is None, "not without being told where"
        yield env


@pytest.fixture
def fork(warm, monkeypatch, tmp_path):
    """Has a fork call a function of CALLS: its exit code and what it wrote."""
    monkeypatch.setenv(VARIABLE, warm[VARIABLE])

    def run(name, *arguments, env=warm, **options):
        with (tmp_path / "output").open("w+b") as output:
            process = ask_for_fork(f"calls:{name}", [name, *arguments], env, output=output, cwd=tmp_path, **options)
            code = process.wait(60)
            output.seek(0)
            return code, output.read().decode()

    return run


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_it_has_the_arguments_folder_and_environment_of_who_asked_and_nothing_to_read(fork, warm, tmp_path):
    code, text = fork("tell", "a b", env={**warm, "COLOUR": "red"})
    assert (code, text) == (0, f"['tell', 'a b'] {tmp_path} red True True\nto stderr\n")
    assert f"['tell'] {tmp_path} None True True\n" in fork("tell")[1]


def test_it_ends_with_the_code_of_what_it_calls_or_says_what_went_wrong(fork):
    assert fork("leave", "7") == (7, "")
    assert fork("complain") == (1, "no such thing\n")
    code, text = fork("fail")
    assert code == 1
    assert "ValueError: no good" in text


def test_two_of_them_draw_different_numbers(fork):
    assert len({fork("random")[1] for _ in range(3)}) == 3


def test_threads_openmp_and_child_processes_work_in_it(fork):
    assert fork("compute") == (0, "3\n")


def test_a_page_can_be_run_by_one_that_has_imported_no_library(fork):
    found = set(fork("loaded", level=TOOLS)[1].split())
    assert {"papermill", "ipykernel.kernelapp", "nbconvert"} <= found
    assert not found & {"pandas", "sklearn", "mlflow", "onnxruntime", "lark"}


def test_all_that_is_named_is_there_and_nothing_of_it_starts_a_thread(fork):
    assert until(lambda: {*PRELOADED[LIBRARIES]} <= set(fork("loaded")[1].split()), 30)
    script = f"""
import importlib, os, threading
for name in {[*PRELOADED[TOOLS], *PRELOADED[LIBRARIES]]!r}:
    importlib.import_module(name)
names = [open(f"/proc/self/task/{{task}}/comm").read() for task in os.listdir("/proc/self/task")]
print(threading.active_count(), *names)
"""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # its threads are its own affair at a fork
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    count, *names = done.stdout.split()
    assert count == "1"
    assert set(names) <= {"python", "python3", Path(sys.executable).name, "jemalloc_bg_thd"}, "jemalloc forks well"


STANDING_IN = "import sys; from mlops_core.forkserver import stand_in; stand_in(sys.argv[1], sys.argv); print('itself')"


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        (["calls:leave", "7"], 7, ""),
        (["calls:complain"], 1, "no such thing\n"),
        (["calls:die"], 137, "The process that did it was killed: was there enough memory?\n"),
    ],
)
def test_who_has_a_fork_stand_in_ends_as_that_does(warm, words, code, err):
    command = [sys.executable, "-c", STANDING_IN, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=warm, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", err)


def test_who_finds_nobody_to_stand_in_does_it_itself():
    env = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [sys.executable, "-c", STANDING_IN, "calls:leave"]
    assert subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout == "itself\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_known_to_have_ended_when_it_is_killed(fork, warm, number):
    process = ask_for_fork("calls:wait", [], warm)
    assert process.poll() is None
    assert process.wait(0.05) is None
    process.send_signal(number)
    assert process.wait(10) == -signal.SIGKILL
    assert process.poll() == -signal.SIGKILL
    process.kill()  # of who is gone, no harm


@pytest.mark.parametrize("address", ["/nowhere", "", None], ids=["gone", "empty", "none"])
def test_where_nobody_forks_there_is_none(monkeypatch, address):
    monkeypatch.delenv(VARIABLE, raising=False)
    if address is not None:
        monkeypatch.setenv(VARIABLE, address)
    assert ask_for_fork("calls:tell", [], {}) is None


def test_an_environment_that_is_too_large_gets_none(fork, warm):
    assert ask_for_fork("calls:tell", [], {**warm, "LARGE": "x" * LARGEST}) is None
    assert fork("leave", "0", env={**warm, "LARGE": "x" * (LARGEST // 2)}) == (0, "")


@pytest.mark.parametrize("place", ["x" * 100, "file/forks"], ids=["too long a name", "no folder"])
def test_where_no_socket_can_be_everything_starts_as_always(tmp_path, place):
    (tmp_path / "file").touch()
    with forking({"A": "B"}, tmp_path / place) as env:
        assert env == {"A": "B"}
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def start_owner(warm, folder):
    """A process that has forks made, and all processes that it has then."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True, env=warm)
    pid = int(owner.stdout.readline())
    members = {pid, *(child.pid for child in psutil.Process(owner.pid).children(recursive=True))}
    assert len(members) == 3, "the fork, and the warm process at both levels"
    return owner, pid, members


def test_when_the_run_is_killed_its_forks_and_the_warm_process_end(warm, tmp_path):
    owner, _, members = start_owner(warm, tmp_path / "forks")
    owner.kill()
    owner.communicate()
    assert until(lambda: all(is_gone(member) for member in members)), members
    with forking(os.environ, tmp_path / "forks") as env:
        assert VARIABLE in env, "what it left is in nobody's way"


def test_when_the_warm_process_is_killed_nobody_waits_for_it(warm, tmp_path, monkeypatch):
    owner, pid, members = start_owner(warm, tmp_path / "forks")
    try:
        (first,) = (child for child in psutil.Process(owner.pid).children())
        first.kill()
        assert until(lambda: all(is_gone(member) for member in members - {pid}))
        monkeypatch.setenv(VARIABLE, str(tmp_path / "forks"))
        assert [ask_for_fork("calls:tell", [], warm, level=level) for level in PRELOADED] == [None, None]
    finally:
        owner.kill()
        owner.communicate()


def test_only_the_owner_may_ask_and_when_the_block_ends_nothing_is_left(tmp_path):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with forking(os.environ, tmp_path / "forks"):
        members = {child.pid for child in psutil.Process().children(recursive=True)} - before
        assert members
        assert (tmp_path / "forks").stat().st_mode & 0o077 == 0
    assert all(is_gone(member) for member in members)
    assert list(tmp_path.iterdir()) == []
