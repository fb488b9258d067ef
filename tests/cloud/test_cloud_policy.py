"""What must hold for every container in every cloud, whatever the platform calls it."""

import math
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
from manifests import DEPLOY, ROOT, Container, aws_resources, cloud_run, containers, documented_variables, hosts
from schemas import cloud_run_says

from api.settings import ApiSettings

EVERY = containers()
IMAGES = {
    "api": "mlops-api",
    "app": "mlops-app",
    "mlflow": "mlops-mlflow",
    "pipeline": "mlops-pipeline",
    "migrate": "mlops-api",
    "databases": "mlops-api",
}
WRITES = {
    "api": {"/srv/mlops/.mlops", "/tmp"},
    "app": {"/srv/mlops/.mlops", "/tmp"},
    "mlflow": {"/srv/mlops/.mlops", "/tmp"},
    "migrate": {"/srv/mlops/.mlops", "/tmp"},
    "pipeline": {"/srv/project", "/tmp"},
}
PLATFORMS = ("kubernetes/aws", "kubernetes/gcp", "kubernetes/azure", "aws", "gcp", "azure")
FILES = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and path.suffix in (".yaml", ".yml", ".json")]
SECRET = re.compile(r"SECRET|PASSWORD|DATABASE_URL|LOG_URL|STUDY_URL|STORE_URI|SERVER_URL|TOKEN|KEY")
WORD = re.compile(r"[A-Za-z0-9+/_=-]{24,}")


def one(where: str, name: str) -> Container:
    (found,) = (container for container in EVERY if (container.where, container.name) == (where, name))
    return found


every = pytest.mark.parametrize("container", EVERY, ids=str)
everywhere = pytest.mark.parametrize("where", PLATFORMS)


@everywhere
def test_every_platform_runs_the_whole_system(where):
    names = {container.name for container in EVERY if container.where == where}
    assert names - {"databases"} == {"api", "app", "mlflow", "migrate", "pipeline"}


@every
def test_an_image_is_one_of_the_four_with_a_tag_of_its_own(container):
    name, _, tag = container.image.rpartition(":")
    assert name.split("/")[-1] == IMAGES[container.name]
    assert tag in ("unset", "${Version}")


@every
def test_a_container_has_a_limit_of_memory(container):
    assert re.fullmatch(r"[1-9]\d*(Mi|Gi)", container.memory)


@every
def test_what_runs_for_long_is_probed(container):
    assert container.probed or not container.is_service


@every
def test_nothing_runs_as_root_or_writes_where_it_should_not(container):
    """Cloud Run and Container Apps have no such fields: there it is the image's own user, and pages say so."""
    assert container.locked is not False
    assert (container.locked is None) == (container.where in ("gcp", "azure"))
    if container.writable is not None:
        assert container.writable >= WRITES.get(container.name, set()) - {"/tmp"}
        assert container.writable <= {"/srv/mlops/.mlops", "/srv/project", "/tmp"}


def test_cloud_run_still_has_no_way_to_lock_a_container():
    assert cloud_run_says("SecurityContext").startswith("Not supported by Cloud Run.")


@every
def test_a_secret_comes_by_reference_only(container):
    assert {name for name in container.plain if SECRET.search(name)} == set()
    assert {name for name in container.secret if not SECRET.search(name)} == set()


@every
def test_a_container_knows_no_more_secrets_than_it_uses(container):
    api = {"MLOPS_JWT_SECRET", "MLOPS_DATABASE_URL", "MLOPS_PREDICTION_LOG_URL"}
    known = {
        "api": api,
        "app": set(),
        "mlflow": {"MLFLOW_BACKEND_STORE_URI"},
        "pipeline": {"MLOPS_STUDY_URL"},
        "migrate": api - {"MLOPS_JWT_SECRET"} | {"MLOPS_ADMIN_PASSWORD"},
        "databases": {"SERVER_URL"},
    }
    assert container.secret == known[container.name]


@every
def test_every_variable_of_ours_is_documented(container):
    assert {name for name in container.variables if name.startswith("MLOPS_")} <= documented_variables()


@everywhere
def test_production_is_said_to_be_production(where):
    assert one(where, "api").plain["MLOPS_ENV"] == one(where, "migrate").plain["MLOPS_ENV"] == "production"


@everywhere
def test_the_api_has_more_time_to_stop_than_it_takes(where):
    api = one(where, "api")
    drain, grace = (float(api.plain[f"MLOPS_{name}_SECONDS"]) for name in ("DRAIN", "GRACE"))
    assert api.stop_seconds > drain + grace
    settings = ApiSettings(drain_seconds=drain, grace_seconds=int(grace), allowed_hosts=hosts(api))
    assert settings.show_docs or settings.env == "local"  # every value is one that the API takes


@everywhere
def test_the_page_has_more_time_to_stop_than_it_takes(where):
    from mlops_core.frontend.launch import STOP_SECONDS

    assert one(where, "app").stop_seconds > STOP_SECONDS or where == "gcp"


@everywhere
def test_mlflow_answers_to_one_name_which_is_the_one_it_is_called_by(where):
    mlflow = one(where, "mlflow")
    (allowed,) = (
        word.removeprefix("--allowed-hosts=") for word in mlflow.command if word.startswith("--allowed-hosts")
    )
    assert "*" not in allowed
    for caller in ("api", "pipeline"):
        assert one(where, caller).plain["MLOPS_TRACKING_URI"].split("://")[1] == allowed
    assert "--disable-security-middleware" not in mlflow.command


@everywhere
def test_mlflow_runs_no_jobs_and_takes_models_from_its_own_store_only(where):
    mlflow = one(where, "mlflow")
    assert mlflow.plain["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    allowed = re.compile(mlflow.plain["MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"])
    sources = {"mlflow-artifacts:/1/a": True, "models:/m-1": True, "s3://elsewhere/a": False, "file:///etc": False}
    assert {source: bool(allowed.match(source)) for source in sources} == sources


@everywhere
def test_the_api_answers_to_the_name_that_the_page_calls_it_by(where):
    url = one(where, "app").plain["MLOPS_API_URL"]
    assert re.sub(r":\d+$", "", url.split("://")[1]) in hosts(one(where, "api"))
    assert "*" not in str(hosts(one(where, "api")))


@everywhere
def test_nobody_is_believed_about_an_address_but_the_balancer(where):
    assert "*" not in one(where, "api").plain["MLOPS_TRUSTED_PROXIES"]
    assert "0.0.0.0/0" not in one(where, "api").plain["MLOPS_TRUSTED_PROXIES"]


def test_what_is_started_is_a_command_that_there_is():
    from typer.main import get_command

    from api.cli import app

    started = {container.command[1] for container in EVERY if container.command[0] == "mlops"}
    assert started <= set(get_command(app).commands)


@every
def test_ports_are_listened_to_from_outside(container):
    words = shlex.join(container.command).replace("=", " ")
    assert "--host 0.0.0.0" in words or not container.is_service


# ---- neither registry nor database is for the world


def test_no_file_makes_the_registry_public():
    assert cloud_run()["mlflow"]["metadata"]["annotations"]["run.googleapis.com/ingress"] == "internal"


def test_the_world_reaches_the_balancer_only():
    world = {
        name
        for name, group in aws_resources("AWS::EC2::SecurityGroup").items()
        for rule in group["Properties"].get("SecurityGroupIngress", [])
        if rule.get("CidrIp", "").endswith("/0")
    }
    assert world == {"BalancerGroup"}
    rules = aws_resources("AWS::EC2::SecurityGroupIngress").values()
    assert all("SourceSecurityGroupId" in rule["Properties"] for rule in rules)


# ---- nothing secret lies in a file


def entropy(word: str) -> float:
    counts = Counter(word)
    return -sum(n / len(word) * math.log2(n / len(word)) for n in counts.values())


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_holds_a_value_that_looks_secret(file: Path):
    text = re.sub(r"\{\{resolve:[^}]*\}*|\$\{\w+\}", "", file.read_text(encoding="utf-8"))
    assert re.findall(r"://[^/\s:@]+:[^@\s\"']+@", text) == []
    words = [word for word in WORD.findall(text) if re.search(r"\d", word) and re.search(r"[A-Za-z]", word)]
    assert [word for word in words if entropy(word) > 4.2] == []


def test_the_search_for_secrets_finds_one():
    assert entropy("9dX2kQmZr7LwVtB4nYc8sHf3") > 4.2


def test_no_secret_of_kubernetes_is_written_down():
    assert [
        file for file in FILES if re.search(r"^kind: Secret$", file.read_text(encoding="utf-8"), re.MULTILINE)
    ] == []


def test_no_file_asks_for_the_latest_of_anything():
    assert [file for file in FILES if re.search(r":latest\b|\bkey: .?latest", file.read_text(encoding="utf-8"))] == []
