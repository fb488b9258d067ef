"""The Dockerfile and the compose file keep their promises, as far as can be read off them without an engine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from api.settings import ApiSettings
from mlops_core.package import LOCKS, read_services, read_stages
from mlops_core.settings import Settings

CHECKOUT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")
LASTING = sorted(set(SERVICES) - {"volumes"})  # that one lives for a copy


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_no_rights_that_it_does_not_name(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service.get("privileged")
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))
    assert set(service.get("cap_add", [])) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}


@pytest.mark.parametrize("name", LASTING)
def test_a_service_has_limits_and_gains_no_privileges(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
    assert SERVICES[name]["logging"]["options"]["max-size"]


def test_only_the_front_doors_are_published_and_only_on_loopback_by_default() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if service.get("ports")}
    assert not {"db", "mlflow", "s3"} & set(published)
    assert set(published) == {"api", "app", "proxy", "prometheus", "grafana"}
    inner = [port for name, ports in published.items() if name != "proxy" for port in ports]
    assert all(port.startswith("${BIND:-127.0.0.1}:") for port in inner)
    assert SERVICES["proxy"]["profiles"] == ["tls"]


def test_databases_and_registry_have_no_way_out_and_the_page_no_way_in() -> None:
    networks = COMPOSE["networks"]
    assert networks["data"]["internal"] is networks["registry"]["internal"] is True
    assert "edge" not in {*SERVICES["db"]["networks"], *SERVICES["mlflow"]["networks"]}
    assert SERVICES["app"]["networks"] == ["edge"]


def test_no_password_stands_in_the_file_and_none_has_a_default() -> None:
    text = (CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")
    for value in re.findall(r"(?:PASSWORD|SECRET|SECRET_KEY): (\S.*)", text):
        assert value.strip('"').startswith("${"), value
        assert re.search(r":-[^}]", value) is None, value


def test_every_image_is_named_with_its_version() -> None:
    images = [service["image"] for service in SERVICES.values()]
    assert not [image for image in images if "latest" in image or ":" not in image.replace("${", "")]


def test_a_part_starts_when_what_it_needs_is_healthy() -> None:
    needs = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert needs["api"]["mlflow"]["condition"] == "service_healthy"
    assert needs["api"]["setup"]["condition"] == "service_completed_successfully"
    assert needs["mlflow"]["db"]["condition"] == "service_healthy"


def test_the_api_is_given_longer_to_stop_than_it_takes() -> None:
    defaults = ApiSettings()
    assert int(SERVICES["api"]["stop_grace_period"].removesuffix("s")) > defaults.drain_seconds + defaults.grace_seconds


def test_every_variable_that_is_set_exists() -> None:
    known = {f"MLOPS_{field.upper()}" for field in (*Settings.model_fields, *ApiSettings.model_fields)}
    for name, service in SERVICES.items():
        used = {variable for variable in service.get("environment", {}) if variable.startswith("MLOPS_")}
        assert used <= known, name


def test_the_registry_names_its_hosts_and_runs_no_jobs() -> None:
    assert '"--allowed-hosts", "mlflow:5000,' in DOCKERFILE
    assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false" in DOCKERFILE
    assert "*" not in re.findall(r'"--allowed-hosts", "([^"]*)"', DOCKERFILE)[0]


def test_every_kept_stage_starts_from_the_bare_base_and_ends_without_rights() -> None:
    stages = read_stages(DOCKERFILE)
    for target in LOCKS:
        assert stages[target].startswith("from base"), target
        body = DOCKERFILE.partition(f" AS {target}\n")[2].partition("\nFROM ")[0]
        assert "USER 10001:10001" in body, target
        assert "HEALTHCHECK" in body, target
        assert "apt-get" not in body, target
    assert "# syntax" not in DOCKERFILE
    assert DOCKERFILE.count("--require-hashes") == 1 + len(LOCKS)


def test_the_dockerfile_lints_clean() -> None:
    tool = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([tool, CHECKOUT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_build_sees_no_product_of_a_run_and_no_secret() -> None:
    lines = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines, "what is not named stays outside"
    named = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert not named & {".git", ".env", ".mlops", "data", "reports", "mlartifacts"}


# ---- passwords


def complete(path: Path) -> subprocess.CompletedProcess[str]:
    script = CHECKOUT / "deploy" / "compose" / "environment.py"
    return subprocess.run([sys.executable, script, path], capture_output=True, text=True, check=False)


def test_passwords_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    assert complete(file).returncode == 0
    first = file.read_text(encoding="utf-8")
    assert file.stat().st_mode & 0o777 == 0o600
    values = [line.partition("=")[2] for line in first.splitlines()]
    assert len(set(values)) == len(values) >= 8
    assert min(map(len, values)) >= 32
    assert complete(file).returncode == 0
    assert file.read_text(encoding="utf-8") == first


def test_what_a_person_wrote_stays_and_the_rest_is_added(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# mine\nAPI_PORT=9000\nMLOPS_JWT_SECRET=abcdefghijklmnopqrstuvwxyz0123456789", encoding="utf-8")
    assert complete(file).returncode == 0
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# mine\nAPI_PORT=9000\nMLOPS_JWT_SECRET=abcdefghijklmnopqrstuvwxyz0123456789\n")
    assert "\nPOSTGRES_PASSWORD=" in text


@pytest.mark.parametrize("value", ["", "secret", "a" * 40, "with a blank" * 4, "p@ss/word:" * 5, "abcabcabc" * 4])
def test_a_weak_password_stops_the_start_and_is_not_shown(tmp_path: Path, value: str) -> None:
    file = tmp_path / ".env"
    file.write_text(f"POSTGRES_PASSWORD={value}\n", encoding="utf-8")
    done = complete(file)
    assert done.returncode == 2
    assert "POSTGRES_PASSWORD" in done.stderr
    assert not value or value not in done.stderr


# ---- what notebook 08 reads


def test_a_stage_says_what_it_takes_along() -> None:
    stages = read_stages(DOCKERFILE)
    assert stages["api"] == "from base, takes from api-packages, code"
    assert set(LOCKS) < set(stages)


def test_services_are_described_as_compose_merges_them() -> None:
    services = read_services((CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert services["api"]["root file system"] == "read-only"
    assert services["api"]["capabilities"] == "none"
    assert services["db"]["published"] == ""
