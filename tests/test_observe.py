"""Alerts and dashboard as files: each rule proved by promtool, each panel readable, nothing from elsewhere."""

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
OBSERVE = ROOT / "deploy" / "observe"
GRAFANA = OBSERVE / "grafana"
UNIT_TESTS = ROOT / "tests" / "observe" / "alerts.yml"
RUNBOOK = ROOT / "docs" / "observe.md"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "mlops.json").read_bytes())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
needs_promtool = pytest.mark.skipif(which("promtool") is None, reason="there is no Prometheus on this machine")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((OBSERVE / "alerts.yml").read_bytes())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_reads_the_rules() -> None:
    promtool("check", "rules", str(OBSERVE / "alerts.yml"))
    promtool("check", "config", "--syntax-only", str(OBSERVE / "prometheus.yml"))


@needs_promtool
def test_each_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", str(UNIT_TESTS))


def test_each_alert_is_seen_firing_and_seen_quiet() -> None:
    cases = [case for test in yaml.safe_load(UNIT_TESTS.read_bytes())["tests"] for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_each_alert_says_what_to_do() -> None:
    sections = {heading.lower() for heading in re.findall(r"^### (\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.M)}
    assert sections == {rule["alert"].lower() for rule in rules()}
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/observe.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert "instance }}" in rule["annotations"]["summary"]


def test_panels_are_numbered_once_and_none_hides_another() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, panel["title"]
    for one, two in combinations((panel["gridPos"] for panel in PANELS), 2):
        beside = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
        below = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
        assert beside or below, (one, two)


@pytest.mark.parametrize(
    "panel", [panel for panel in PANELS if panel["type"] != "row"], ids=lambda panel: panel["title"]
)
def test_each_panel_asks_something_and_has_a_unit(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for target in panel["targets"]:
        assert target["expr"]
        assert target["legendFormat"]
        assert "$instance" in target["expr"] or target["expr"].startswith("ALERTS"), target["expr"]


def test_every_question_goes_to_the_database_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_bytes())[
        "datasources"
    ]
    asked = re.findall(r'"datasource": (\{.*?\})', (GRAFANA / "dashboards" / "mlops.json").read_text(encoding="utf-8"))
    assert len(asked) > len(PANELS) / 2
    assert {(found["type"], found["uid"]) for found in map(json.loads, asked)} == {(source["type"], source["uid"])}


def test_nothing_comes_from_another_host() -> None:
    for path in OBSERVE.rglob("*.*"):
        hosts = set(re.findall(r"https?://([\w.-]+)", path.read_text(encoding="utf-8")))
        assert hosts <= {"api", "prometheus"}, path
