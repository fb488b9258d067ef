"""The images: small, without rights, without tools and secrets, and saying what they were made from."""

import hashlib
import json

import pytest
from stack import CHECKOUT, engine, run

from mlops_core import package

TARGETS = ("api", "app", "mlflow", "pipeline")
LOCKS = {"api": "serve", "app": "app", "mlflow": "mlflow", "pipeline": "pipeline"}
TOOLS = "gcc cc ld strip make uv hatchling git curl"
MEGABYTE = 1_000_000


def inside(image: str, script: str) -> str:
    """What a shell in the image prints, hardened as in the compose file."""
    hardened = [
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges:true",
        "--network=none",
        "--tmpfs=/tmp",
    ]
    return run("docker", "run", "--rm", *hardened, "--entrypoint", "sh", image, "-c", script)


def facts(image: str) -> dict:
    return json.loads(run("docker", "image", "inspect", image))[0]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_no_rights_no_tools_and_nothing_of_the_workplace(images: dict[str, str], target: str) -> None:
    script = f"""id -u; touch /srv/x 2>&1 | grep -c 'Read-only'
        for tool in {TOOLS}; do command -v $tool; done
        find / -xdev \\( -name .git -o -name .env -o -name '*.db' -o -name mlartifacts \\) 2>/dev/null
        true"""
    assert inside(images[target], script).split() == ["10001", "1"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_says_what_it_was_made_from(images: dict[str, str], target: str) -> None:
    config = facts(images[target])["Config"]
    lock = (CHECKOUT / "requirements" / f"{LOCKS[target]}.txt").read_bytes()
    assert config["Labels"]["mlops.lock"] == hashlib.sha256(lock).hexdigest()
    assert config["Labels"]["org.opencontainers.image.revision"] == run("git", "rev-parse", "HEAD").strip()
    assert config["User"] == "10001:10001"
    assert (target == "pipeline") == (config["Healthcheck"]["Test"] == ["NONE"])


@pytest.mark.parametrize("target", TARGETS)
def test_no_secret_went_into_a_layer(images: dict[str, str], target: str) -> None:
    history = run("docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", images[target]).lower()
    assert not [word for word in ("password", "secret", "token", "api_key") if word in history]


def test_the_api_is_under_300_megabytes_above_its_base(images: dict[str, str]) -> None:
    base = facts("python:3.12-slim-bookworm")["Size"]
    sizes = {target: (facts(image)["Size"] - base) / MEGABYTE for target, image in images.items()}
    print({target: f"{size:.0f} MB above the base" for target, size in sizes.items()})
    assert sizes["api"] < 300
    assert sizes["api"] < sizes["pipeline"] / 3


@pytest.mark.parametrize(
    ("target", "absent"),
    [
        ("api", "pandas sklearn dvc papermill jupyterlab optuna flask matplotlib"),
        ("app", "pandas sklearn mlflow numpy onnxruntime sqlalchemy fastapi jose"),
        ("mlflow", "dvc jupyterlab optuna papermill voila"),
    ],
)
def test_an_image_holds_what_it_needs_and_no_more(images: dict[str, str], target: str, absent: str) -> None:
    script = f"from importlib.util import find_spec; print([name for name in '{absent}'.split() if find_spec(name)])"
    assert inside(images[target], f'python -c "{script}"').strip() == "[]"


def test_an_edit_of_our_code_rebuilds_no_package(images: dict[str, str]) -> None:
    ids = [facts(image)["RootFS"]["Layers"] for image in images.values()]
    with_code = CHECKOUT / "mlops_core" / "errors.py"
    before = with_code.read_bytes()
    try:
        with_code.write_bytes(before + b"\n# an edit\n")
        run("make", "-s", "images", "TAG=edited")
        edited = [facts(f"mlops-{target}:edited")["RootFS"]["Layers"] for target in images]
    finally:
        with_code.write_bytes(before)
        run("docker", "rmi", "-f", *(f"mlops-{target}:edited" for target in images), check=False)
    for target, old, new in zip(images, ids, edited, strict=True):
        kept = [layer for layer in old if layer in new]
        assert len(kept) >= len(old) - (4 if target == "pipeline" else 2), target


def test_notebook_08_sees_the_engine_the_layers_and_what_a_container_may_not_do(images: dict[str, str]) -> None:
    assert package.find_engine() == engine()
    layers = package.read_layers(images["api"])
    assert sum(layer.megabytes for layer in layers) == pytest.approx(facts(images["api"])["Size"] / MEGABYTE, rel=0.01)
    assert any("/opt/venv" in layer.made_by for layer in layers)
    said = package.try_hardened(images["api"], "id -un; touch /srv/mlops/x 2>&1; command -v gcc || echo no compiler")
    assert [word in said for word in ("mlops", "Read-only", "no compiler")] == [True] * 3
    with pytest.raises(package.EngineError, match="docker history failed"):
        package.read_layers("no-such-image:here")
