"""What a new version must show before it gets traffic, and while it has some; each gate says what it saw."""

import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_core.deploy.proxy import Counts, Proxy, ProxyError
from mlops_core.errors import MLOpsError
from mlops_core.serve.client import Client, numbers_of, to_instances
from mlops_core.serve.predictor import answers_agree
from mlops_core.serve.rehearsal import Service, ServiceError

PROBLEM = "application/problem+json"
HOLD_SECONDS, WAIT_SECONDS = 1.0, 30.0
POLL_SECONDS = 0.05


class RefusedError(MLOpsError):
    """A version that did not pass a gate."""

    def __init__(self, gate: str, reason: str) -> None:
        self.gate, self.reason = gate, reason
        super().__init__(f"Refused at the gate '{gate}': {reason}")


@dataclass(frozen=True)
class Login:
    """An account that may predict, known to every version."""

    name: str
    password: str


@dataclass(frozen=True)
class Golden:
    """Rows with the answers that training recorded for them: probabilities each, or one value."""

    instances: Sequence[dict[str, Any]]
    answers: Sequence[Sequence[float] | float]


@dataclass(frozen=True)
class Limits:
    """Of the gates under traffic: how many answers they look at, the share that may fail, the mean time."""

    answers: int
    errors: float
    ms: float


def read_golden(bundle: Path) -> Golden:
    tree = json.loads((bundle / "golden.json").read_bytes())
    return Golden(to_instances(tree["columns"]), tree["answers"])


def pass_ready_gate(candidate: Service, seconds: float = WAIT_SECONDS) -> str:
    """A verified model is loaded. Raises RefusedError at once where the version says why it never will be."""
    stranger = candidate.client()

    def is_ready() -> bool:
        try:
            answer = stranger.get("/readyz")
        except (OSError, http.client.HTTPException):
            return False
        for version, reason in answer.json.get("refused", {}).items():
            raise RefusedError("ready", f"version {version} of the model is refused, {reason}")
        return answer.status == http.client.OK

    try:
        candidate.wait_until(is_ready, "ready", seconds)
    except ServiceError as error:
        raise RefusedError("ready", str(error)) from None
    model = stranger.get("/readyz").json["model"]
    return f"{model['name']} version {model['version']} is loaded"


def _demand(condition: bool, reason: str) -> None:
    if not condition:
        raise RefusedError("smoke", reason)


def pass_smoke_gate(serving: Client, candidate: Client, login: Login, golden: Golden) -> str:
    """It is asked as callers will ask it, and with *their* tokens: one of its own would prove nothing."""
    _demand(serving.log_in(login.name, login.password).status == http.client.OK, "the one that serves lets nobody in")
    _demand(candidate.log_in(login.name, login.password).status == http.client.OK, "it lets nobody in")
    serving.token, candidate.token = candidate.token, serving.token
    _demand(candidate.get("/auth/me").status == http.client.OK, "a token of the one that serves is not good here")
    _demand(serving.get("/auth/me").status == http.client.OK, "its token is not good at the one that serves")

    answer = candidate.post("/v1/predict", {"instances": golden.instances})
    _demand(answer.status == http.client.OK, f"the golden rows are answered with {answer.status}")
    numbers = numbers_of(answer.json["predictions"])
    _demand(answers_agree(numbers, golden.answers), "the golden rows get other answers")

    wrong = candidate.post("/v1/predict", {"instances": [{"no such column": 1}]})
    form = (wrong.status, wrong.headers.get("content-type"))
    _demand(form == (http.client.UNPROCESSABLE_ENTITY, PROBLEM), "a wrong question is not answered in the agreed form")
    return f"{len(numbers)} golden rows as recorded, tokens good both ways, a refusal in the agreed form"


def pass_proxy_gate(proxy: Proxy, place: str, port: int) -> str:
    """The proxy's own health check passes: what is healthy from here need not be so from there."""
    try:
        proxy.open_place(place, port)
    except ProxyError as error:
        raise RefusedError("proxy", str(error)) from None
    return "its health check passes there, too"


def pass_traffic_gate(proxy: Proxy, place: str, share: int, before: Counts, limits: Limits) -> str:
    """Enough answers under real callers, few errors among them, and fast ones; all by the proxy's own counts."""
    gate, started = f"{share} %", time.monotonic()
    while True:
        seen = proxy.counts(place).since(before)
        if not seen.up:
            raise RefusedError(gate, f"the proxy finds it {seen.status.lower()} after {seen.answers} answers")
        if seen.errors > limits.errors * max(seen.answers, limits.answers):
            raise RefusedError(gate, f"{seen.errors} requests failed there, beside {seen.answers} answers")
        waited = time.monotonic() - started
        if seen.answers >= limits.answers and waited >= HOLD_SECONDS:
            break
        if waited > WAIT_SECONDS:
            raise RefusedError(gate, f"only {seen.answers} answers in {WAIT_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
    if seen.ms > limits.ms:
        raise RefusedError(gate, f"its answers take {seen.ms} ms, {limits.ms:g} are allowed")
    return f"{seen.answers} answers, {seen.errors} errors, {seen.ms} ms"
