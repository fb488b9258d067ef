"""What every test here may use: fixed hypothesis examples, and one small trained bundle per task."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tables import TASKS, make_bundle

# The same examples on every machine, and no limits of time: a busy one is not a wrong one.
settings.register_profile(
    "tests", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle per task; read only, copy it to change it."""
    folder = tmp_path_factory.mktemp("bundles")
    return {task: make_bundle(task, folder / task) for task in TASKS}
