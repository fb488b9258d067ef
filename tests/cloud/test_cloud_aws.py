"""What the AWS template promises: nothing public but the balancer, nothing lost by deleting, updates that go back."""

import json
import re

import pytest
from manifests import ROOT, aws_resources, aws_template

TEMPLATE = aws_template()["Resources"]


def test_aws_draws_the_same_picture():
    groups = {
        (
            rule["Properties"]["SourceSecurityGroupId"]["Ref"],
            rule["Properties"]["GroupId"]["Ref"],
            rule["Properties"]["ToPort"],
        )
        for rule in aws_resources("AWS::EC2::SecurityGroupIngress").values()
    }
    assert groups == {
        ("BalancerGroup", "ApiGroup", 8000),
        ("AppGroup", "ApiGroup", 8000),
        ("BalancerGroup", "AppGroup", 8866),
        ("ApiGroup", "MlflowGroup", 5000),
        ("JobsGroup", "MlflowGroup", 5000),
        ("ApiGroup", "DatabaseGroup", 5432),
        ("MlflowGroup", "DatabaseGroup", 5432),
        ("JobsGroup", "DatabaseGroup", 5432),
    }


def test_no_task_has_an_address_of_its_own():
    networks = [
        service["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]
        for service in aws_resources("AWS::ECS::Service").values()
    ]
    nightly = TEMPLATE["Nightly"]["Properties"]["Target"]["EcsParameters"]["NetworkConfiguration"][
        "AwsvpcConfiguration"
    ]
    for network in [*networks, nightly]:
        assert network["AssignPublicIp"] == "DISABLED"
        assert network["Subnets"] == [{"Ref": "PrivateA"}, {"Ref": "PrivateB"}]
    assert {"Ref": "PrivateRoutes"} not in [
        route["Properties"]["RouteTableId"] for route in aws_resources("AWS::EC2::Route").values()
    ]


def test_the_database_is_private_encrypted_saved_and_kept():
    database = TEMPLATE["Database"]
    wanted = {"PubliclyAccessible": False, "StorageEncrypted": True, "DeletionProtection": True}
    assert wanted.items() <= database["Properties"].items()
    assert database["Properties"]["BackupRetentionPeriod"] >= 7
    assert (database["DeletionPolicy"], database["UpdateReplacePolicy"]) == ("Snapshot", "Snapshot")
    assert TEMPLATE["DatabaseSettings"]["Properties"]["Parameters"] == {"rds.force_ssl": "1"}


def test_the_bucket_is_private_encrypted_and_kept():
    bucket = TEMPLATE["Artifacts"]
    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["Properties"]["BucketEncryption"]
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain")
    (statement,) = TEMPLATE["ArtifactsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


@pytest.mark.parametrize("name", sorted(aws_resources("AWS::ECS::Service")))
def test_an_update_that_does_not_become_healthy_goes_back(name):
    deployment = TEMPLATE[name]["Properties"]["DeploymentConfiguration"]
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}


def test_an_update_of_the_api_goes_back_when_it_answers_with_errors():
    alarms = TEMPLATE["ApiService"]["Properties"]["DeploymentConfiguration"]["Alarms"]
    assert alarms == {"Enable": True, "Rollback": True, "AlarmNames": [{"Ref": "ApiErrors"}]}
    assert TEMPLATE["ApiErrors"]["Properties"]["MetricName"] == "HTTPCode_Target_5XX_Count"


def test_everything_goes_over_tls():
    plain, secure = (TEMPLATE[name]["Properties"] for name in ("PlainListener", "TlsListener"))
    assert plain["DefaultActions"][0]["RedirectConfig"]["Protocol"] == "HTTPS"
    assert (secure["Protocol"], secure["SslPolicy"].startswith("ELBSecurityPolicy-TLS13")) == ("HTTPS", True)
    groups = aws_resources("AWS::ElasticLoadBalancingV2::ListenerRule").values()
    assert {rule["Properties"]["ListenerArn"]["Ref"] for rule in groups} == {"TlsListener"}


def test_the_balancer_asks_whether_a_task_is_ready():
    assert TEMPLATE["ApiTargets"]["Properties"]["HealthCheckPath"] == "/readyz"


@pytest.mark.parametrize("name", sorted(aws_resources("AWS::Logs::LogGroup")))
def test_logs_do_not_stay_for_ever(name):
    assert TEMPLATE[name]["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}


def secrets_read_by(task):
    return {
        item["ValueFrom"]["Ref"]
        for container in task["Properties"]["ContainerDefinitions"]
        for item in container.get("Secrets", [])
    }


@pytest.mark.parametrize("name", sorted(aws_resources("AWS::ECS::TaskDefinition")))
def test_a_task_is_started_with_the_right_to_read_its_own_secrets_only(name):
    task = TEMPLATE[name]
    starter = TEMPLATE[task["Properties"]["ExecutionRoleArn"]["GetAtt"].split(".")[0]]["Properties"]
    granted = set()
    for policy in starter.get("Policies", []):
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Action"] == "secretsmanager:GetSecretValue"
            listed = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
            granted |= {item["Ref"] for item in listed}
    assert granted == secrets_read_by(task)


def test_only_the_registry_acts_on_aws():
    acting = {
        name for name, task in aws_resources("AWS::ECS::TaskDefinition").items() if "TaskRoleArn" in task["Properties"]
    }
    assert acting == {"MlflowTask"}


@pytest.mark.parametrize("name", sorted(aws_resources("AWS::IAM::Role") | aws_resources("AWS::IAM::ManagedPolicy")))
def test_no_right_is_given_on_everything(name):
    properties = TEMPLATE[name]["Properties"]
    documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
    if "PolicyDocument" in properties:
        documents.append(properties["PolicyDocument"])
    for statement in (statement for document in documents for statement in document["Statement"]):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if action.endswith("*")]
        assert statement["Resource"] != "*" or actions == ["ecr:GetAuthorizationToken"]  # which takes nothing else


def test_the_volumes_of_a_task_are_declared_in_its_image():
    """Fargate gives a volume to root, unless the image declares it."""
    dockerfile = ROOT / "Dockerfile"
    if not dockerfile.is_file():
        pytest.skip("no Dockerfile")
    declared = re.findall(r"^VOLUME (.+)$", dockerfile.read_text(encoding="utf-8"), re.MULTILINE)
    paths = {path for line in declared for path in json.loads(line)}
    assert {"/srv/mlops/.mlops", "/srv/project", "/tmp"} <= paths
