"""An engine, the images and one stack for the whole session."""

from collections.abc import Iterator

import pytest
from stack import TAG, Stack, engine, run
from stack import stack as make_stack


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """Names of the images by target, built from this checkout."""
    if not engine():
        pytest.skip("no Docker engine answers: start one, or point DOCKER_HOST at it")
    run("make", "-s", "images", f"TAG={TAG}", seconds=1200)
    return {target: f"mlops-{target}:{TAG}" for target in ("api", "app", "mlflow", "pipeline")}


@pytest.fixture(scope="session")
def stack(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with make_stack(tmp_path_factory.mktemp("stack")) as found:
        yield found
