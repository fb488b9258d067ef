"""The registry's process against a real MLflow store: what it answers, what it refuses, and that it can be ended."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tables import sha256

from api.registry import RegistryError, RegistryProcess
from api.serving import ModelSlot
from mlops_core.registry.champions import DIGEST, EVALUATION, EVALUATION_DIGEST, promote
from mlops_core.registry.store import Store, open_store
from mlops_core.serve.bundle import bundle_digest
from mlops_core.settings import Settings

NAME = "small"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy


RECORD = {"metric": "log_loss", "card": "# Model card"}


def add_version(
    store: Store, bundle: Path, number: int, digest: str = "", evaluation: str | None = None, **tags: str
) -> None:
    """Registers a bundle as MLflow keeps one inside a model version, without the run that made it."""
    source = store.root / "mlartifacts" / f"v{number}"
    shutil.copytree(bundle, source / "artifacts" / "bundle")
    if evaluation is not None:
        (source / EVALUATION).write_text(evaluation)
    tags[DIGEST] = digest or bundle_digest(bundle)
    store.client.create_model_version(NAME, source.as_uri(), tags=tags)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, bundles: dict[str, Path]) -> Path:
    """A store with three versions: 1, its successor and champion 2, and 3, whose digest is another one's."""
    root = tmp_path_factory.mktemp("registry")
    store = open_store(root, Settings())
    store.client.create_registered_model(NAME)
    add_version(store, bundles["binary"], 1)
    add_version(store, bundles["multiclass"], 2)
    add_version(store, bundles["regression"], 3, digest="0" * 64)
    promote(store, NAME, 1, "the first")
    promote(store, NAME, 2, "better")
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A copy of its own; the versions' files stay where they are."""
    (tmp_path / "mlflow.db").write_bytes((template / "mlflow.db").read_bytes())
    return tmp_path


@pytest.fixture
def registry(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryProcess]:
    monkeypatch.delenv("MLOPS_TRACKING_URI", raising=False)
    found = RegistryProcess(root)
    yield found
    found.close()


def child(registry: RegistryProcess) -> Any:
    assert registry._process
    return registry._process


def test_it_names_the_champion_and_lists_all_versions(registry: RegistryProcess) -> None:
    assert registry.champion(NAME, "champion") == 2
    assert registry.champion(NAME, "nobody") is None
    assert registry.champion("nothing", "champion") is None
    found = registry.versions(NAME)
    assert [item["version"] for item in found] == [3, 2, 1]
    assert (found[1]["reason"], found[2]["reason"]) == ("better", "the first")
    assert registry.versions("nothing") == []


def test_a_process_that_was_started_early_answers_the_first_question(registry: RegistryProcess) -> None:
    registry.start()
    early = child(registry).pid
    assert registry.champion(NAME, "champion") == 2
    assert child(registry).pid == early


def test_a_bundle_is_fetched_only_when_it_is_the_registered_one(
    registry: RegistryProcess, bundles: dict[str, Path], tmp_path: Path
) -> None:
    facts = registry.fetch(NAME, 2, tmp_path / "two")
    assert facts["digest"] == bundle_digest(tmp_path / "two") == bundle_digest(bundles["multiclass"])
    with pytest.raises(RegistryError, match="not the bundle that was registered") as caught:
        registry.fetch(NAME, 3, tmp_path / "three")
    assert caught.value.kind == "BundleError"
    with pytest.raises(RegistryError) as caught:
        registry.fetch(NAME, 9, tmp_path / "nine")
    assert caught.value.kind == "ModelNotFoundError"


KEPT = [
    (json.dumps(RECORD), json.dumps(RECORD), {"evaluation": RECORD}),
    (None, None, {"no_evaluation": "it was registered without one"}),
    (json.dumps(RECORD), None, {"no_evaluation": "it was registered without one"}),
    (None, json.dumps(RECORD), {"no_evaluation": "the one that was registered is missing or damaged"}),
    ("{}", json.dumps(RECORD), {"no_evaluation": "the one that was registered is missing or damaged"}),
]


def test_an_evaluation_comes_along_only_when_it_is_the_registered_one(
    registry: RegistryProcess, root: Path, bundles: dict[str, Path]
) -> None:
    store = open_store(root, Settings())
    for number, (written, registered, _) in enumerate(KEPT, 4):
        tags = {} if registered is None else {EVALUATION_DIGEST: sha256(registered.encode())}
        add_version(store, bundles["binary"], number, evaluation=written, **tags)
    for number, (written, registered, facts) in enumerate(KEPT, 4):
        found = registry.fetch(NAME, number, root / str(number))
        assert found["digest"] == bundle_digest(root / str(number))
        kept = {name: found[name] for name in found if name.endswith("evaluation")}
        assert kept == facts, (written, registered)
    assert not any(name.endswith("evaluation") for item in registry.versions(NAME) for name in item)


def test_a_rollback_goes_one_back_and_no_further(registry: RegistryProcess) -> None:
    assert registry.roll_back(NAME, "worse since Monday") == 1
    assert registry.champion(NAME, "champion") == 1
    assert registry.versions(NAME)[1]["withdrawn"] == "worse since Monday"
    with pytest.raises(RegistryError, match="nothing to go back to") as caught:
        registry.roll_back(NAME, "again")
    assert caught.value.kind == "NothingBeforeError"


def test_a_killed_process_is_replaced_by_the_next_question(registry: RegistryProcess) -> None:
    assert registry.champion(NAME, "champion") == 2
    first = child(registry)
    first.kill()
    first.wait(10)
    assert registry.champion(NAME, "champion") == 2
    assert child(registry).pid != first.pid


def test_a_process_that_hangs_is_ended_after_its_time(registry: RegistryProcess) -> None:
    assert registry.champion(NAME, "champion") == 2
    hanging = child(registry)
    os.kill(hanging.pid, signal.SIGSTOP)
    with pytest.raises(RegistryError, match=r"no answer in 0.3 s"):
        registry._ask("champion", 0.3, name=NAME, alias="champion")
    assert hanging.poll() is not None, "it still runs"
    assert registry.champion(NAME, "champion") == 2


def test_a_process_that_dies_in_the_middle_of_a_question_is_an_error_and_not_a_wait(registry: RegistryProcess) -> None:
    assert registry.champion(NAME, "champion") == 2
    dying = child(registry)
    os.kill(dying.pid, signal.SIGSTOP)
    end = threading.Timer(0.3, dying.kill)
    end.start()
    with pytest.raises(RegistryError, match="its process ended"):
        registry._ask("champion", 20, name=NAME, alias="champion")
    end.join()
    assert registry.champion(NAME, "champion") == 2


def test_the_service_follows_rolls_back_and_refuses_through_it(registry: RegistryProcess, root: Path) -> None:
    slot = ModelSlot(NAME, "champion", root / "serving", registry)
    assert slot.refresh()
    assert (slot.require().version, slot.require().predictor.schema.task) == (2, "multiclass")
    registry.roll_back(NAME, "worse")
    assert slot.refresh()
    assert slot.require().version == 1
    promote(open_store(root, Settings()), NAME, 3, "looked better")
    assert not slot.refresh()
    assert (slot.require().version, slot.refused) == (1, {3: slot.refused[3]})
    assert "not the bundle that was registered" in slot.refused[3]


def test_an_outage_is_an_error_within_seconds_and_names_no_secret(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_TRACKING_URI", "http://user:canary@127.0.0.1:9")
    registry = RegistryProcess(root)
    try:
        with pytest.raises(RegistryError) as caught:
            registry.champion(NAME, "champion")
        assert "canary" not in str(caught.value)
    finally:
        registry.close()


class Odd(BaseHTTPRequestHandler):
    """Answers every question alike."""

    status, body = 500, b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET  # noqa: N815  the base class's name

    def log_message(self, *_: object) -> None:
        pass


NONSENSE = [
    (500, b"oops"),
    (200, b"<html>a captive portal</html>"),
    (200, b"[]"),
    (404, b"not here"),
    (401, b'{"error_code": "PERMISSION_DENIED"}'),
]


def test_a_server_that_answers_nonsense_is_an_error_and_not_an_empty_registry(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as odd:
        threading.Thread(target=odd.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLOPS_TRACKING_URI", f"http://127.0.0.1:{odd.server_port}")
        registry = RegistryProcess(root)
        for status, body in NONSENSE:
            monkeypatch.setattr(Odd, "status", status)
            monkeypatch.setattr(Odd, "body", body)
            with pytest.raises(RegistryError):
                registry.champion(NAME, "champion")
        registry.close()
        odd.shutdown()


def test_a_file_that_is_away_is_an_error_and_stays_away(registry: RegistryProcess, root: Path) -> None:
    away = (root / "mlflow.db").rename(root / "away.db")
    for _ in range(2):
        with pytest.raises(RegistryError, match="no such file") as caught:
            registry.champion(NAME, "champion")
        assert caught.value.kind == "StoreError"
    away.rename(root / "mlflow.db")
    assert registry.champion(NAME, "champion") == 2
    (root / "mlflow.db").rename(away)
    with pytest.raises(RegistryError, match="no such file"):  # although it has looked into it before
        registry.champion(NAME, "champion")
    assert not (root / "mlflow.db").exists()


def test_what_it_is_asked_wrongly_ends_nobody(registry: RegistryProcess) -> None:
    with pytest.raises(RegistryError) as caught:
        registry._ask("drop", name=NAME)
    assert caught.value.kind == "KeyError"
    first = child(registry)
    assert registry.champion(NAME, "champion") == 2
    assert child(registry) is first
