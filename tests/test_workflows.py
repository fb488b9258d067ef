"""The workflows do what a person can do, with few rights and with actions that cannot change under them."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
TREES: dict[str, dict[str, Any]] = {path.stem: yaml.load(path.read_bytes(), yaml.BaseLoader) for path in FILES}
JOBS = [(name, key, job) for name, tree in TREES.items() for key, job in tree["jobs"].items()]
STEPS = [(name, key, step) for name, key, job in JOBS for step in job.get("steps", [])]


def targets() -> set[str]:
    """Of the Makefile, patterns left out."""
    rules = re.findall(r"^([a-z][a-z -]*):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    return {name for rule in rules for name in rule.split()}


def clean(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_are_what_github_expects() -> None:
    assert set(TREES) == {"ci", "deploy", "pipeline", "release", "weekly"}
    clean("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, FILES))
    clean("check-jsonschema", "--builtin-schema", "vendor.dependabot", str(FOLDER.parent / "dependabot.yml"))


def test_zizmor_finds_nothing() -> None:
    clean("zizmor", "--offline", "--strict-collection", "--quiet", str(FOLDER.parent))


def test_each_step_is_one_make_target_that_exists() -> None:
    """Without anything of an event in the command: what differs comes by the environment."""
    asked = {step["run"] for _, _, step in STEPS if "run" in step}
    assert asked
    assert {command for command in asked if not re.fullmatch(r"make [a-z-]+", command)} == set()
    assert {command.removeprefix("make ") for command in asked} - targets() == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_actions_are_pinned_to_a_commit_that_names_its_version(path: Path) -> None:
    uses = re.findall(r"uses: (\S+)(.*)", path.read_text(encoding="utf-8"))
    assert uses
    for action, comment in uses:
        if not action.startswith("$/"):
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


def test_an_action_has_the_same_version_everywhere() -> None:
    uses = {step["uses"] for _, _, step in STEPS if "uses" in step}
    assert len({action.partition("@")[0] for action in uses}) == len(uses)


@pytest.mark.parametrize("name", TREES)
def test_nothing_is_allowed_unless_a_job_says_so(name: str) -> None:
    assert TREES[name]["permissions"] == {}
    assert TREES[name]["concurrency"]["group"]


@pytest.mark.parametrize(("name", "key", "job"), JOBS, ids=[f"{name}-{key}" for name, key, _ in JOBS])
def test_each_job_names_its_rights_and_ends(name: str, key: str, job: dict[str, Any]) -> None:
    assert job["name"]
    assert isinstance(job["permissions"], dict)
    if "uses" not in job:  # what it calls has a limit of its own
        assert int(job["timeout-minutes"]) <= 120
        assert job["runs-on"] == "ubuntu-24.04"


def test_who_may_write_what() -> None:
    rights = {
        (name, key, scope) for name, key, job in JOBS for scope, right in job["permissions"].items() if right != "read"
    }
    assert rights == {
        ("ci", "publish", "packages"),
        ("pipeline", "comment", "pull-requests"),
        ("release", "release", "packages"),
        ("release", "release", "id-token"),
        ("release", "deploy", "id-token"),
        ("deploy", "deploy", "id-token"),
    }


def test_code_of_a_pull_request_never_meets_a_secret_or_a_right_to_write() -> None:
    assert not any({"pull_request_target", "workflow_run"} & set(tree["on"]) for tree in TREES.values())
    for name, key, job in JOBS:
        if (name == "pipeline" and key == "smoke") or (name == "ci" and key != "publish"):
            assert set(job["permissions"]) == {"contents"}
            assert "secrets." not in str(job)
    assert TREES["ci"]["jobs"]["publish"]["if"] == "github.event_name == 'push'"
    (code,) = [step for step in TREES["pipeline"]["jobs"]["comment"]["steps"] if "checkout" in step.get("uses", "")]
    assert code["with"]["ref"] == "${{ github.base_ref }}"


def test_the_token_is_not_left_in_a_checkout() -> None:
    checkouts = [step for _, _, step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


def test_a_release_builds_nothing_again() -> None:
    """The images that were tested on main are those that are signed."""
    commands = [step["run"] for step in TREES["release"]["jobs"]["release"]["steps"] if "run" in step]
    assert commands == ["make pull", "make scan", "make sbom", "make sign", "make publish"]
    published = [step.get("run") for step in TREES["ci"]["jobs"]["publish"]["steps"]]
    assert published.index("make docker-test") < published.index("make push")
