from pathlib import Path

import pytest

from mlops_core.deploy.inventory import TemplateError, describe_templates, describe_workflows, find_pages

KUBERNETES = """
apiVersion: apps/v1
kind: Deployment
---
apiVersion: v1
kind: Service
---
apiVersion: v1
kind: Service
---
"""
CLOUDFORMATION = """
Resources:
  Bucket: {Type: "AWS::S3::Bucket"}
  Role:
    Type: AWS::IAM::Role
    Properties: {Name: !Sub "${AWS::StackName}-role", Uses: !GetAtt [Bucket, Arn], If: !If [A, {b: !Ref C}, d]}
"""
AZURE = '{"resources": [{"type": "Microsoft.App/containerApps"}, {"type": "Microsoft.Storage/storageAccounts"}]}'
COMPOSE = "services: {api: {image: a}, app: {image: b}}"
KUSTOMIZATION = "resources: [deployment.yaml, service.yaml]"
WORKFLOW = """
on:
  push: {branches: [main]}
  schedule: [{cron: "0 3 * * 1"}]
jobs:
  lint: {steps: [{uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683}]}
  test:
    steps:
      - uses: actions/setup-python@v5
      - uses: ./.github/actions/setup
  release: {uses: $/.github/workflows/deploy.yml}
"""


def write(root: Path, name: str, text: str) -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("name", "text", "creates"),
    [
        ("deploy/kubernetes/base/api.yaml", KUBERNETES, "Deployment, 2 × Service"),
        ("deploy/aws/stack.yaml", CLOUDFORMATION, "AWS::IAM::Role, AWS::S3::Bucket"),
        ("deploy/azure/main.json", AZURE, "Microsoft.App/containerApps, Microsoft.Storage/storageAccounts"),
        ("deploy/azure/app.yaml", "type: Microsoft.App/containerApps", "Microsoft.App/containerApps"),
        ("deploy/compose/stack.yml", COMPOSE, "2 × service"),
        ("deploy/kubernetes/kustomization.yaml", KUSTOMIZATION, "2 × part"),
        ("deploy/compose/prometheus.yml", "scrape_configs: []", "settings"),
        ("deploy/empty.yaml", "", "settings"),
    ],
)
def test_a_template_is_told_by_what_it_creates(tmp_path, name, text, creates):
    write(tmp_path, name, text)
    assert describe_templates(tmp_path, "deploy") == {name: {"creates": creates}}


@pytest.mark.parametrize("name", ["deploy/aws/stack.yaml", "deploy/azure/main.json"])
def test_a_template_that_no_tool_could_read_is_named(tmp_path, name):
    write(tmp_path, name, "{a: [")
    with pytest.raises(TemplateError, match=f"{name} cannot be read: "):
        describe_templates(tmp_path, "deploy")


def test_a_workflow_is_told_by_what_starts_it_and_by_what_is_pinned(tmp_path):
    write(tmp_path, ".github/workflows/ci.yml", WORKFLOW)
    facts = describe_workflows(tmp_path)[".github/workflows/ci.yml"]
    assert facts == {"starts on": "push, schedule", "jobs": "lint, test, release", "pinned": "1 of 2 actions"}


@pytest.mark.parametrize(("text", "starts"), [("on: push\njobs: {}", "push"), ("on: [push, release]", "push, release")])
def test_what_starts_a_workflow_may_be_written_shorter(tmp_path, text, starts):
    write(tmp_path, ".github/workflows/ci.yml", text)
    assert describe_workflows(tmp_path)[".github/workflows/ci.yml"]["starts on"] == starts


def test_a_checkout_without_any_of_it_has_none(tmp_path):
    found = describe_templates(tmp_path, "deploy"), describe_workflows(tmp_path), find_pages(tmp_path, "deploy/")
    assert found == ({}, {}, [])


def test_the_pages_that_speak_of_a_folder_are_found(tmp_path):
    write(tmp_path, "docs/clouds/aws.md", "Use `deploy/aws/stack.yaml`.")
    write(tmp_path, "docs/other.md", "Nothing.")
    assert find_pages(tmp_path, "deploy/aws") == ["docs/clouds/aws.md"]
