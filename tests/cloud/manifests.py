"""What `deploy/` holds, read once: Kubernetes as rendered, and every container of every cloud in one shape."""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OVERLAYS = ("aws", "gcp", "azure")
# Stand-ins for what envsubst fills in.
FILLED = {
    "PROJECT": "example-project",
    "PROJECT_NUMBER": "000000000000",
    "REGION": "europe-west3",
    "VERSION": "unset",
    "SUBSCRIPTION": "00000000-0000-0000-0000-000000000000",
    "GROUP": "mlops",
    "LOCATION": "germanywestcentral",
    "REGISTRY": "examplemlops",
    "VAULT": "example-mlops",
    "STORAGE": "examplemlops",
    "DOMAIN": "example.germanywestcentral.azurecontainerapps.io",
    "MLFLOW_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
}
Document = dict[str, Any]


@dataclass(frozen=True)
class Container:
    """One container of one cloud. What a platform has no field for is None."""

    where: str
    name: str
    image: str
    command: list[str]
    plain: dict[str, str] = field(default_factory=dict)
    secret: frozenset[str] = frozenset()
    memory: str = ""
    probed: bool | None = None
    locked: bool | None = None
    writable: frozenset[str] | None = None
    stop_seconds: float | None = None

    @property
    def is_service(self) -> bool:
        """Whether it runs until it is told to stop."""
        return self.name in ("api", "app", "mlflow")

    @property
    def variables(self) -> set[str]:
        return set(self.plain) | set(self.secret)

    def __str__(self) -> str:
        return f"{self.where} {self.name}"


# ---- Kubernetes


def render_folder(folder: Path) -> tuple[Document, ...]:
    """What `kubectl apply -k` would send. `kubectl` is the real one, of the development environment."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


@functools.cache
def render(overlay: str) -> tuple[Document, ...]:
    return render_folder(DEPLOY / "kubernetes" / "overlays" / overlay)


def of_kind(documents: tuple[Document, ...], kind: str) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def pod_templates(documents: tuple[Document, ...]) -> dict[str, Document]:
    """The pod template of each Deployment, Job and CronJob."""
    found = {}
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] in ("Deployment", "Job"):
            found[document["metadata"]["name"]] = spec["template"]
        if document["kind"] == "CronJob":
            found[document["metadata"]["name"]] = spec["jobTemplate"]["spec"]["template"]
    return found


def _is_locked(pod: Document, container: Document) -> bool:
    own, shared = container["securityContext"], pod["securityContext"]
    return (
        shared["runAsNonRoot"] is True
        and shared["runAsUser"] == shared["runAsGroup"] == 10001
        and shared["seccompProfile"] == {"type": "RuntimeDefault"}
        and own
        == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    )


def _of_kubernetes(overlay: str) -> Iterator[Container]:
    for template in pod_templates(render(overlay)).values():
        pod = template["spec"]
        volumes = {volume["name"] for volume in pod["volumes"] if volume["emptyDir"]["sizeLimit"]}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            env = container.get("env", [])
            yield Container(
                f"kubernetes/{overlay}",
                container["name"],
                container["image"],
                container["args"],
                {item["name"]: item["value"] for item in env if "value" in item},
                frozenset(item["name"] for item in env if "secretKeyRef" in item.get("valueFrom", {})),
                container["resources"]["limits"]["memory"],
                {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container),
                _is_locked(pod, container),
                frozenset(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in volumes),
                pod.get("terminationGracePeriodSeconds"),
            )


# ---- AWS


class _Template(yaml.SafeLoader):
    """CloudFormation's short forms: `!Ref X` becomes {"Ref": "X"}, `!Sub "…"` {"Sub": "…"}."""


def _short_form(loader: _Template, suffix: str, node: yaml.Node) -> Document:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    return {suffix: loader.construct_mapping(node, deep=True)}


_Template.add_multi_constructor("!", _short_form)


@functools.cache
def aws_template() -> Document:
    return yaml.load((DEPLOY / "aws" / "template.yaml").read_text(encoding="utf-8"), _Template)


def aws_resources(kind: str) -> dict[str, Document]:
    return {name: item for name, item in aws_template()["Resources"].items() if item["Type"] == kind}


def text_of(value: Any) -> str:
    """A value of the template as text: what `!Sub` and `!Ref` will fill in stays as it is written."""
    return value if isinstance(value, str) else str(value.get("Sub") or "${" + value["Ref"] + "}")


def _of_aws() -> Iterator[Container]:
    for task in aws_resources("AWS::ECS::TaskDefinition").values():
        volumes = {volume["Name"] for volume in task["Properties"]["Volumes"]}
        for container in task["Properties"]["ContainerDefinitions"]:
            limited = container["LinuxParameters"] == {"InitProcessEnabled": True, "Capabilities": {"Drop": ["ALL"]}}
            yield Container(
                "aws",
                container["Name"],
                text_of(container["Image"]),
                [text_of(word) for word in container["Command"]],
                {item["Name"]: text_of(item["Value"]) for item in container.get("Environment", [])},
                frozenset(item["Name"] for item in container.get("Secrets", [])),
                f"{container['Memory']}Mi",
                "HealthCheck" in container,
                limited and container["ReadonlyRootFilesystem"] is True and container["User"] == "10001:10001",
                frozenset(m["ContainerPath"] for m in container.get("MountPoints", []) if m["SourceVolume"] in volumes),
                container.get("StopTimeout"),
            )


# ---- Google and Azure


def filled(path: Path) -> Document:
    """The file as envsubst hands it to the cloud's own command."""
    return yaml.safe_load(re.sub(r"\$\{(\w+)\}", lambda found: FILLED[found[1]], path.read_text(encoding="utf-8")))


def cloud_run() -> dict[str, Document]:
    return {path.stem: filled(path) for path in sorted((DEPLOY / "gcp").glob("*.yaml"))}


def container_apps() -> dict[str, Document]:
    return {path.stem: filled(path) for path in sorted((DEPLOY / "azure").glob("*.yaml"))}


def run_pod(document: Document) -> Document:
    """The pod of a Cloud Run service or job."""
    spec = document["spec"]["template"]["spec"]
    return spec["template"]["spec"] if document["kind"] == "Job" else spec


def _of_cloud_run() -> Iterator[Container]:
    for document in cloud_run().values():
        for container in run_pod(document)["containers"]:
            yield Container(
                "gcp",
                container["name"],
                container["image"],
                container["args"],
                {item["name"]: item["value"] for item in container["env"] if "value" in item},
                frozenset(item["name"] for item in container["env"] if "secretKeyRef" in item.get("valueFrom", {})),
                container["resources"]["limits"]["memory"],
                {"startupProbe", "livenessProbe"} <= set(container),
                stop_seconds=10,  # Cloud Run's own, which nothing can change
            )


def _of_container_apps() -> Iterator[Container]:
    for document in container_apps().values():
        template = document["properties"]["template"]
        for container in template["containers"]:
            yield Container(
                "azure",
                container["name"],
                container["image"],
                container["args"],
                {item["name"]: item["value"] for item in container["env"] if "value" in item},
                frozenset(item["name"] for item in container["env"] if "secretRef" in item),
                container["resources"]["memory"],
                {probe["type"] for probe in container.get("probes", [])} == {"Startup", "Liveness", "Readiness"},
                writable=frozenset(mount["mountPath"] for mount in container["volumeMounts"]),
                stop_seconds=template.get("terminationGracePeriodSeconds"),
            )


def containers() -> list[Container]:
    """Every container that anything under `deploy/` would start in a cloud."""
    kubernetes = [container for overlay in OVERLAYS for container in _of_kubernetes(overlay)]
    return [*kubernetes, *_of_aws(), *_of_cloud_run(), *_of_container_apps()]


def documented_variables() -> set[str]:
    """What `.env.example` explains."""
    return set(re.findall(r"^# (MLOPS_\w+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))


def hosts(container: Container) -> list[str]:
    return json.loads(container.plain["MLOPS_ALLOWED_HOSTS"])
