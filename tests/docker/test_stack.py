"""The compose stack from nothing to a prediction, each part of it killed, and put back from a backup; in this order."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from door import write_certificate
from stack import CHECKOUT, PENGUIN, TAG, Stack, run, until

from mlops_core.processes import free_port

SERVICES = ("db", "mlflow", "api", "app")
BUDGET = ("tune.trials=6", "tune.seconds=120", "train.bootstrap=50")


def damage(file: str) -> str:
    """A copy of a backup with one byte too many."""
    source, copy = CHECKOUT / file, CHECKOUT / f"{file}.damaged"
    copy.write_bytes(source.read_bytes() + b"x")
    digest = source.with_name(f"{source.name}.sha256").read_text().split()[0]
    copy.with_name(f"{copy.name}.sha256").write_text(f"{digest}  {copy.name}\n")
    return str(copy)


def stand_in(name: str) -> None:
    folder = "tests/docker"
    run("docker", "build", "-q", "-t", f"mlops-standin-{name}", "-f", f"{folder}/{name}.dockerfile", folder)


def is_ready(stack: Stack) -> bool:
    return stack.ask("/readyz")[0] == 200


def test_it_comes_up_without_a_model_and_says_so(stack: Stack) -> None:
    stack.compose("up", "-d")
    until(lambda: stack.ask("/livez")[0] == 200)
    assert stack.ask("/readyz")[0] == 503
    assert stack.health("db") == stack.health("mlflow") == "healthy"
    until(lambda: stack.health("app") == "healthy")


def test_every_part_runs_hardened_and_only_the_api_and_the_page_are_published(stack: Stack) -> None:
    published = set()
    for service in SERVICES:
        facts = stack.inspect(service)
        host = facts["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert host["Memory"], service
        assert host["PidsLimit"], service
        bound = {place["HostIp"] for places in host["PortBindings"].values() for place in places}
        assert bound <= {"127.0.0.1"}
        published |= {service} if bound else set()
    assert published == {"api", "app"}


def test_the_page_reaches_neither_the_database_nor_the_registry(stack: Stack) -> None:
    script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
    stack.compose("exec", "-T", "app", "python", "-c", script, "api", "8000")
    for host, port in (("db", "5432"), ("mlflow", "5000")):
        assert "error" in stack.compose(
            "exec", "-T", "app", "sh", "-c", f"python -c '{script}' {host} {port} 2>&1 || echo error", check=False
        )


def test_the_registry_answers_to_its_own_name_only(stack: Stack) -> None:
    script = """
import urllib.request, urllib.error
for host in ("mlflow:5000", "10.evil.example", "mlflow"):
    address = "http://mlflow:5000/api/2.0/mlflow/experiments/search?max_results=1"
    request = urllib.request.Request(address, headers={"Host": host})
    try:
        print(urllib.request.urlopen(request, timeout=5).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
    assert stack.compose("exec", "-T", "api", "python", "-c", script).split() == ["200", "403", "403"]


def test_a_role_sees_its_own_databases_only(stack: Stack) -> None:
    databases = "SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname !~ 'template|postgres'"
    owners = ["accounts|api", "mlflow|mlflow", "optuna|optuna", "predictions|api"]
    assert sorted(stack.query("postgres", databases).split()) == owners
    entered = """SELECT datname, rolname FROM pg_database, pg_roles WHERE rolname IN ('api', 'mlflow', 'optuna')
        AND datname !~ 'template|postgres' AND has_database_privilege(pg_roles.oid, pg_database.oid, 'CONNECT')"""
    assert sorted(stack.query("postgres", entered).split()) == owners


def test_the_series_runs_in_its_container_into_the_stack(stack: Stack) -> None:
    changes = [part for change in BUDGET for part in ("--set", change)]
    said = stack.compose(
        "run",
        "--rm",
        "-T",
        "pipeline",
        "mlops",
        "run",
        "--dataset",
        "penguins",
        "--stage",
        "train",
        *changes,
        seconds=900,
    )
    print(said[-2000:])
    assert int(stack.query("mlflow", "SELECT count(*) FROM model_versions WHERE name = 'penguins'")) == 1
    assert int(stack.query("optuna", "SELECT count(*) FROM trials WHERE state = 'COMPLETE'")) >= 2
    label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    commit = run("docker", "image", "inspect", "-f", label, f"mlops-pipeline:{TAG}").strip()
    assert stack.query("mlflow", "SELECT DISTINCT value FROM tags WHERE key = 'git_commit'") == commit


def test_the_api_picks_the_champion_up_by_itself_and_answers(stack: Stack) -> None:
    until(lambda: is_ready(stack))
    until(lambda: stack.health("api") == "healthy")
    stack.log_in()
    status, answer = stack.predict()
    assert status == 200
    assert answer["model"] == {"name": "penguins", "version": 1}
    status, reasons = stack.ask("/v1/explain", {"instances": [PENGUIN]})
    assert status == 200
    assert reasons["predictions"][0]["contributions"]
    stack.answered += 1


def test_a_table_is_answered_by_the_slimmed_image(stack: Stack) -> None:
    script = """
import io, json, sys, urllib.request
import pyarrow as pa, pyarrow.parquet as pq
table, parquet = pa.Table.from_pylist([json.loads(sys.argv[2])] * 2), io.BytesIO()
pq.write_table(table, parquet)
rows = [table.column_names, *([str(value) for value in row.values()] for row in table.to_pylist())]
csv = "".join(",".join(row) + "\\n" for row in rows).encode()
for kind, body in (("text/csv", csv), ("application/vnd.apache.parquet", parquet.getvalue())):
    headers = {"Content-Type": kind, "Authorization": "Bearer " + sys.argv[1]}
    answer = urllib.request.urlopen(urllib.request.Request("http://localhost:8000/v1/predict/file", body, headers))
    print(answer.status, len(answer.read()) > 50)
"""
    said = stack.compose("exec", "-T", "api", "python", "-c", script, stack.token, json.dumps(PENGUIN))
    assert said.splitlines() == ["200 True", "200 True"]
    stack.answered += 4


def test_a_person_signs_in_on_the_page_and_gets_an_answer(stack: Stack) -> None:
    browser = pytest.importorskip("browser")
    if not browser.CHROMIUM:
        pytest.skip("no Chromium here")
    before = stack.settled()
    with browser.chromium() as chromium:
        visit = browser.Visit(chromium, stack.app).open()
        visit.sign_in("admin", stack.environment["MLOPS_ADMIN_PASSWORD"]).answered()
        assert visit.page.locator(browser.HEAD).inner_text() in ("Adelie", "Chinstrap", "Gentoo")
        assert (visit.foreign, visit.complaints) == ([], [])
    stack.answered += stack.settled() - before
    assert stack.settled() > before


def test_the_registry_is_killed_and_nobody_notices(stack: Stack) -> None:
    stack.kill("mlflow")
    assert [stack.predict()[0] for _ in range(20)] == [200] * 20
    stack.start("mlflow")
    until(lambda: stack.health("mlflow") == "healthy")
    status, models = stack.ask("/v1/models")
    assert status == 200
    assert "penguins" in json.dumps(models)


def test_the_database_is_killed_and_what_was_answered_is_kept(stack: Stack) -> None:
    stack.kill("db")
    answers = [stack.predict()[0] for _ in range(20)]
    assert set(answers) <= {200, 503}, "a plain refusal, or an answer that is logged later"
    assert stack.ask("/livez")[0] == 200
    stack.start("db")
    until(lambda: stack.health("db") == "healthy")
    until(lambda: stack.predict()[0] == 200)
    print({status: answers.count(status) for status in set(answers)})


def test_the_api_is_killed_and_comes_back_with_its_model_without_the_registry(stack: Stack) -> None:
    stack.kill("mlflow")
    stack.kill("api")
    assert stack.predict()[0] == 0
    stack.start("api")
    until(lambda: is_ready(stack))
    assert stack.predict()[0] == 200
    stack.start("mlflow")
    until(lambda: stack.health("mlflow") == "healthy")


def test_the_page_is_killed_and_comes_back(stack: Stack) -> None:
    stack.kill("app")
    assert stack.predict()[0] == 200
    stack.start("app")
    until(lambda: stack.health("app") == "healthy")


def test_every_answer_is_in_the_log_exactly_once(stack: Stack) -> None:
    until(lambda: stack.logged() >= stack.answered, 60)
    assert stack.settled() == stack.answered


def test_the_front_door_speaks_tls_and_shows_the_page_and_the_api(stack: Stack, tmp_path: Path) -> None:
    stand_in("haproxy")
    file, plain, secure = tmp_path / "door.pem", str(free_port()), str(free_port())
    trust = write_certificate(file)
    file.chmod(0o644)
    stack.environment |= {"HAPROXY_IMAGE": "mlops-standin-haproxy", "DOOR_CERTIFICATE": str(file)}
    stack.environment |= {"DOOR_BIND": "127.0.0.1", "DOOR_HTTP": plain, "DOOR_HTTPS": secure}
    stack.compose("--profile", "tls", "up", "-d", "--no-deps", "proxy")
    body = json.dumps({"instances": [PENGUIN]}).encode()
    headers = {"Authorization": f"Bearer {stack.token}", "Content-Type": "application/json"}

    def ask(path: str, data: bytes | None = None) -> int:
        request = urllib.request.Request(f"https://127.0.0.1:{secure}{path}", data, headers)
        try:
            return urllib.request.urlopen(request, timeout=10, context=trust).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    until(lambda: ask("/v1/predict", body) == 200)
    stack.answered += 1
    assert ask("/metrics") == 404
    assert ask("/voila/templates/mlops/static/app.css") == 200


def test_prometheus_logs_in_by_itself_and_finds_the_api_up(stack: Stack) -> None:
    run(
        "docker",
        "build",
        "-q",
        "-t",
        "mlops-standin-prometheus",
        "-f",
        "tests/docker/prometheus.dockerfile",
        "tests/docker",
    )
    port = free_port()
    stack.environment |= {"PROMETHEUS_IMAGE": "mlops-standin-prometheus", "PROMETHEUS_PORT": str(port)}
    stack.compose("--profile", "observe", "up", "-d", "prometheus")

    def value() -> list[str]:
        try:
            address = f"http://127.0.0.1:{port}/api/v1/query?query=up%7Bjob%3D%22mlops-api%22%7D"
            with urllib.request.urlopen(address, timeout=5) as answer:
                return [item["value"][1] for item in json.loads(answer.read())["data"]["result"]]
        except OSError:
            return []

    until(lambda: value() == ["1"])


def test_it_stops_in_order_and_a_start_finds_everything(stack: Stack) -> None:
    stack.compose("stop")
    codes = {service: stack.inspect(service)["State"]["ExitCode"] for service in SERVICES}
    assert codes["api"] == 0, codes
    assert codes["db"] == 0, codes
    stack.compose("up", "-d")
    until(lambda: is_ready(stack))
    stack.log_in()
    assert stack.predict()[0] == 200


def test_a_backup_brings_back_what_was_there_and_a_damaged_one_is_refused(stack: Stack) -> None:
    said = stack.make("backup")
    file = said.split(",")[0]
    kept, users = stack.settled(), stack.query("accounts", "SELECT count(*) FROM mlops_users")
    until(lambda: is_ready(stack))
    stack.log_in()
    assert stack.predict()[0] == 200
    assert (
        stack.ask("/admin/users", {"name": "late", "password": "nine geese over the town", "scopes": ["predict"]})[0]
        == 201
    )
    assert stack.logged() == kept + 1
    with pytest.raises(AssertionError, match="nothing was changed"):
        stack.make("restore", f"FROM={damage(file)}")
    assert stack.logged() == kept + 1
    stack.make("restore", f"FROM={file}")
    until(lambda: is_ready(stack))
    assert stack.logged() == kept
    assert stack.query("accounts", "SELECT count(*) FROM mlops_users") == users
    stack.log_in()
    assert stack.predict()[0] == 200
    assert stack.ask("/v1/models")[0] == 200
