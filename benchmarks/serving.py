"""The service beside its floors and `mlflow models serve`: everything started here, measured in turns, medians.

(a) a bare FastAPI route on the same uvicorn; (b) our service with a stub instead of the graph; (c) one row;
(d) 1,000 rows; (e) one explanation; (f) MLflow's own server, without authentication. The prediction log is on.
"""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

import psutil

from benchmarks.load import Load, request_bytes, run_load
from benchmarks.measure import ROOT, tool
from mlops_core.params import load_params
from mlops_core.processes import free_port

ROUNDS, SECONDS = (1, 1.5) if "--fast" in sys.argv else (5, 3.0)
CONNECTIONS = (1, 16)
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

BARE = """
import sys
import uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.post("/predict")
async def predict() -> dict[str, str]:
    return {"label": "late"}
uvicorn.run(app, port=int(sys.argv[1]), http="h11", log_level="warning", access_log=False)
"""
STUB = """
import dataclasses, sys
from pathlib import Path
import numpy as np
from api import server, serving
class Stub:
    def run(self, names, feeds):
        return [np.full((len(feeds["x"]), 2), 0.5, dtype=np.float32)]
def load_predictor(folder):
    return dataclasses.replace(original(folder), session=Stub())
original, serving.load_predictor = serving.load_predictor, load_predictor
server.serve(Path(sys.argv[1]), "127.0.0.1", int(sys.argv[2]))
"""


class Server:
    """A child process that listens on a free loopback port."""

    def __init__(self, ready: str, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.port = free_port()
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [part.replace("PORT", str(self.port)) for part in command],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._wait(ready, started + 90)
        except BaseException:
            self.stop()
            raise
        self.ready_seconds = time.perf_counter() - started

    def _wait(self, ready: str, deadline: float) -> None:
        while self.process.poll() is None and time.perf_counter() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", ready)[0] == 200:
                    return
            time.sleep(0.01)
        raise RuntimeError(f"a server was not ready on port {self.port}")

    def ask(self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body or None, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def memory(self, children: bool) -> float:
        """Resident megabytes."""
        process = psutil.Process(self.process.pid)
        every = [process, *(process.children(recursive=True) if children else [])]
        return float(sum(each.memory_info().rss for each in every) / 1e6)

    def stop(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.terminate()
        self.process.terminate()
        self.process.wait(30)


def make_project(folder: Path, password: str) -> Path:
    """A checkout without data, with an account of its own."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    add = [tool("mlops"), "users", "add", "bench", "--scopes", "predict,monitor,admin", "--password-stdin"]
    subprocess.run(add, cwd=folder, input=password, text=True, check=True, capture_output=True)
    return folder


def log_in(server: Server, password: str) -> dict[str, str]:
    form = urlencode({"grant_type": "password", "username": "bench", "password": password})
    status, body = server.ask("POST", "/auth/token", form, FORM)
    if status != 200:
        raise RuntimeError(f"no token: {status} {body!r}")
    return {**JSON, "Authorization": f"Bearer {json.loads(body)['access_token']}"}


def measure(cases: dict[str, tuple[Server, bytes, int]]) -> dict[str, Load]:
    """Medians over rounds that interleave the cases."""
    seen: dict[str, list[Load]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, (server, request, connections) in cases.items():
            run_load(server.port, request, connections, 0.5)
            seen[name].append(run_load(server.port, request, connections, SECONDS))
    return {
        name: Load(*(statistics.median(getattr(load, part) for load in loads) for part in ("rate", "p50", "p99")))
        for name, loads in seen.items()
    }


def bench_serving(with_mlflow: bool = True) -> dict[str, float]:
    """By case and number of connections: requests per second, median and 99th percentile in ms; start and memory."""
    store = f"sqlite:///{ROOT / 'mlflow.db'}"
    environment = {"MLOPS_TRACKING_URI": store, "MLFLOW_TRACKING_URI": store}
    ours_command = [tool("mlops"), "serve", "--port", "PORT"]
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        password = secrets.token_urlsafe(18)
        folder = make_project(Path(temporary), password)

        def start(ready: str, command: list[str]) -> Server:
            server = Server(ready, command, folder, environment)
            stack.callback(server.stop)
            return server

        start("/readyz", ours_command).stop()  # fetches the champion
        ours = start("/readyz", ours_command)
        stub = start("/readyz", [sys.executable, "-c", STUB, str(folder), "PORT"])
        bare = start("/openapi.json", [sys.executable, "-c", BARE, "PORT"])
        token, stub_token = log_in(ours, password), log_in(stub, password)
        row = json.loads(ours.ask("GET", "/v1/model", headers=token)[1])["example"]
        one, many = (json.dumps({"instances": [row] * count}).encode() for count in (1, 1000))
        requests = {
            "(a) bare FastAPI route": (bare, request_bytes("/predict", one, JSON)),
            "(b) stub": (stub, request_bytes("/v1/predict", one, stub_token)),
            "(c) predict, 1 row": (ours, request_bytes("/v1/predict", one, token)),
            "(d) predict, 1,000 rows": (ours, request_bytes("/v1/predict", many, token)),
            "(e) explain, 1 row": (ours, request_bytes("/v1/explain", one, token)),
        }
        if with_mlflow:
            model = f"models:/{load_params(root=ROOT).dataset}@champion"
            command = [tool("mlflow"), "models", "serve", "-m", model, "--env-manager", "local", "-p", "PORT"]
            records = json.dumps({"dataframe_records": [row]}).encode()
            mlflow = start("/ping", command)
            requests["(f) mlflow models serve"] = (mlflow, request_bytes("/invocations", records, JSON))
        found = measure(
            {
                f"{name}, {count} connections": (server, request, count)
                for count in CONNECTIONS
                for name, (server, request) in requests.items()
            }
        )
        table = {
            f"{name}: {label}": value
            for name, load in found.items()
            for label, value in {"req/s": load.rate, "p50 ms": load.p50 * 1000, "p99 ms": load.p99 * 1000}.items()
        }
        table["start to ready, s"] = ours.ready_seconds
        table["resident MB"] = ours.memory(children=False)
        table["resident MB, the registry's process included"] = ours.memory(children=True)
        if with_mlflow:
            table["mlflow models serve: start to ready, s"] = mlflow.ready_seconds
            table["mlflow models serve: resident MB"] = mlflow.memory(children=True)
        return table


if __name__ == "__main__":
    for what, value in bench_serving("--fast" not in sys.argv).items():
        print(f"{what:<60} {value:>12,.2f}")
