"""Every file under `deploy/` is what its cloud accepts, as far as that cloud's own descriptions tell offline."""

import subprocess
import sys
from pathlib import Path

import azure.mgmt.appcontainers.models as azure_models
import jsonschema
import kubernetes_validate
import pytest
from manifests import DEPLOY, OVERLAYS, cloud_run, container_apps, render
from schemas import azure_faults, cloud_run_schema

# What is no part of Kubernetes itself, and has no description offline: test_cloud_kubernetes.py looks at it.
FOREIGN = {"ExternalSecret", "SecretStore", "BackendConfig"}
SERVICES = ("api", "app", "mlflow")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_knows_every_field(overlay):
    version = kubernetes_validate.latest_version()
    for document in render(overlay):
        if document["kind"] not in FOREIGN:
            kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_field_of_kubernetes_is_found():
    broken = {**render("aws")[0], "specc": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="specc"):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_cloudformation_has_nothing_to_complain_about():
    linter = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([linter, DEPLOY / "aws" / "template.yaml"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", sorted(cloud_run()))
def test_cloud_run_knows_every_field(name):
    document = cloud_run()[name]
    jsonschema.validate(document, cloud_run_schema(document["kind"]), jsonschema.Draft4Validator)


def test_a_misspelt_field_of_cloud_run_is_found():
    document = cloud_run()["api"]
    document["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(jsonschema.ValidationError, match="livenesProbe"):
        jsonschema.validate(document, cloud_run_schema("Service"), jsonschema.Draft4Validator)


@pytest.mark.parametrize("name", sorted(container_apps()))
def test_container_apps_know_every_field(name):
    model = azure_models.ContainerApp if name in SERVICES else azure_models.Job
    assert azure_faults(container_apps()[name], model) == []


def test_misspelt_fields_and_unknown_words_of_container_apps_are_found():
    document = container_apps()["api"]
    document["properties"]["configuration"]["ingress"] |= {"targetPort": "8000", "transport": "htpp", "externl": True}
    faults = azure_faults(document, azure_models.ContainerApp)
    assert [fault.split(": ")[0].rpartition(".")[2] for fault in faults] == ["externl", "targetPort", "transport"]
