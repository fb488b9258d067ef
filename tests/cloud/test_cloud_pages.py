"""The pages in docs/ name what there is: files, images, apps, jobs, secrets, outputs, routes, commands."""

import re
from pathlib import Path

import pytest
from manifests import FILLED, OVERLAYS, ROOT, aws_template, cloud_run, container_apps, of_kind, render, run_pod
from typer.main import get_command

from api.cli import app
from api.operations import OPERATIONS

PAGES = {name: (ROOT / "docs" / f"deploy-{name}.md").read_text(encoding="utf-8") for name in ("kubernetes", *OVERLAYS)}
pages = pytest.mark.parametrize("name", PAGES)
serverless = pytest.mark.parametrize("name", ["gcp", "azure"])


def code(name: str) -> str:
    """A page's commands, with lines that go on put together."""
    return "\n".join(re.findall(r"```bash\n(.*?)```", PAGES[name], re.DOTALL)).replace("\\\n", "")


@pages
def test_every_file_that_a_page_names_is_there(name):
    named = set(re.findall(r"deploy/[\w./-]+[\w]", PAGES[name])) - {"deploy/deploy"}
    assert named
    for path in named - {"deploy/api", "deploy/app"}:
        assert (ROOT / path).exists() or list((ROOT / path).parent.glob(f"{Path(path).name}*")), path


@pages
def test_every_image_is_built(name):
    assert "for image in api app mlflow pipeline; do" in code(name)


@pages
def test_a_page_says_that_it_was_not_run_and_what_it_costs(name):
    assert re.search(r"\*\*It has not (yet )?been\s+run\s+against", PAGES[name])
    assert re.search(r"An estimate, not a quote: .* November 2026, per month", PAGES[name])
    assert "## Remove it" in PAGES[name]


@pages
def test_every_command_and_route_of_ours_exists(name):
    commands = set(re.findall(r"-- mlops (\w+)", code(name)))
    assert commands <= set(get_command(app).commands)
    routes = {(method, path) for method, path in re.findall(r"`(GET|POST) (/[\w/]+)`", PAGES[name])}
    assert routes <= {tuple(operation) for operation in known_routes()}


def known_routes() -> set[tuple[str, str]]:
    return {(method.upper(), path) for method, path in OPERATIONS}


@serverless
def test_every_part_is_filled_in_and_created(name):
    documents = cloud_run() if name == "gcp" else container_apps()
    assert f"for part in {' '.join(('api', 'app', 'mlflow', 'migrate', 'pipeline'))}; do fill $part; done" in code(name)
    created = set(re.findall(r"(?:replace|create\b.*--yaml) filled-(\w+)\.yaml", code(name)))
    assert created == set(documents)
    assert set(re.findall(r"\bmlops-(api|app|mlflow|migrate|pipeline)\b", code(name))) == set(documents)


@serverless
def test_every_word_in_braces_is_filled_in(name):
    (words,) = set(re.findall(r"envsubst '([^']*)'", code(name)))
    given = {word.removeprefix("$") for word in words.split()}
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "deploy" / name).glob("*.yaml")]
    assert {word for text in texts for word in re.findall(r"\$\{(\w+)\}", text)} == given <= set(FILLED)
    for word in given:
        assert re.search(rf"\b{word}=", code(name)), word


def secrets_of(name: str) -> dict[str, set[str]]:
    """Which part reads which secret, by the files."""
    if name == "gcp":
        return {
            part: {
                item["valueFrom"]["secretKeyRef"]["name"].removeprefix("mlops-")
                for container in run_pod(document)["containers"]
                for item in container["env"]
                if "valueFrom" in item
            }
            for part, document in cloud_run().items()
        }
    return {
        part: {item["name"] for item in document["properties"]["configuration"].get("secrets", [])}
        for part, document in container_apps().items()
    }


@serverless
def test_every_secret_is_made_and_may_be_read_by_its_part_only(name):
    made = set(re.findall(r"^secret ([\w-]+) ", code(name), re.MULTILINE))
    verb = "account" if name == "gcp" else "identity"
    granted = {
        line.split()[0]: set(line.split()[1:]) for line in re.findall(rf"^{verb} (\w.*)$", code(name), re.MULTILINE)
    }
    assert granted == secrets_of(name)
    assert made == set().union(*granted.values())


@serverless
def test_every_secret_is_removed_or_goes_with_its_group(name):
    removal = PAGES[name].split("## Remove it")[1]
    assert "az group delete" in removal or all(secret in removal for secret in set().union(*secrets_of("gcp").values()))


def test_a_reference_of_container_apps_leads_to_a_secret_of_the_same_file():
    for document in container_apps().values():
        known = {
            item["name"]: item["keyVaultUrl"] for item in document["properties"]["configuration"].get("secrets", [])
        }
        used = {
            item["secretRef"]
            for container in document["properties"]["template"]["containers"]
            for item in container["env"]
            if "secretRef" in item
        }
        assert used == set(known)
        assert all(url.endswith(f"/secrets/mlops-{secret}") for secret, url in known.items())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_page_on_kubernetes_lists_every_secret_and_names_what_is_rendered(overlay):
    documents = render(overlay)
    fetched = {
        item["remoteRef"]["key"]
        for secret in of_kind(documents, "ExternalSecret").values()
        for item in secret["spec"]["data"]
    }
    assert set(re.findall(r"^\| `(mlops-[\w-]+)`", PAGES["kubernetes"], re.MULTILINE)) == fetched
    kinds = {"deployment": "Deployment", "cronjob": "CronJob", "job": "Job"}
    for kind, thing in re.findall(r"\b(deployment|cronjob|job)/([\w-]+)", code("kubernetes")):
        assert thing in of_kind(documents, kinds[kind]) or thing == "first-run"
    images = {document["newName"].split("/")[-1] for document in images_of(overlay)}
    assert images == {f"mlops-{image}" for image in ("api", "app", "mlflow", "pipeline")}


def images_of(overlay: str) -> list[dict[str, str]]:
    import yaml

    file = ROOT / "deploy" / "kubernetes" / "overlays" / overlay / "kustomization.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))["images"]


def test_the_page_on_aws_gives_every_parameter_and_reads_outputs_that_exist():
    template = aws_template()
    given = set(re.findall(r"(\w+)=\$", code("aws").split("--parameter-overrides")[1].split("\n")[0]))
    wanted = {name for name, parameter in template["Parameters"].items() if "Default" not in parameter}
    assert wanted <= given <= set(template["Parameters"])
    assert set(re.findall(r"^deploy (\w+)", code("aws"), re.MULTILINE)) == set(
        template["Parameters"]["Services"]["AllowedValues"]
    )
    read = set(re.findall(r"output (\w+)", PAGES["aws"])) | set(re.findall(r"^job (\w+)", code("aws"), re.MULTILINE))
    assert read - {"text", "tsv", "json"} == set(template["Outputs"])
