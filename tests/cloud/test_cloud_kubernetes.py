"""What is rendered for a cluster fits together: names, ports, labels, secrets, and who may talk to whom."""

import ipaddress
import os
import shutil
import subprocess
import sys

import psycopg
import pytest
import yaml
from manifests import DEPLOY, OVERLAYS, containers, of_kind, pod_templates, render, render_folder

overlays = pytest.mark.parametrize("overlay", OVERLAYS)
NAME = "app.kubernetes.io/name"
PODS = {"api", "app", "mlflow", "migrate", "pipeline"}


def matches(selector, labels):
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(labels.get(rule["key"]) in rule["values"] for rule in selector.get("matchExpressions", []))


def labels_of(documents):
    return {name: template["metadata"]["labels"] for name, template in pod_templates(documents).items()}


def allowed(documents):
    """Which pod may open which port of which other, both sides' policies taken together; 'world' is a network."""
    labels, policies = labels_of(documents), of_kind(documents, "NetworkPolicy").values()
    sides = {"ingress": set(), "egress": set()}
    for policy in policies:
        owners = {pod for pod in labels if matches(policy["spec"]["podSelector"], labels[pod])}
        for side, other in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(side, []):
                for peer in rule.get(other, []):
                    selector = peer.get("podSelector")
                    peers = {pod for pod in labels if selector and matches(selector, labels[pod])} or {"world"}
                    for port in rule["ports"]:
                        pairs = {(a, b) if side == "egress" else (b, a) for a in owners for b in peers}
                        sides[side] |= {(source, target, port["port"]) for source, target in pairs}
    return sides


@overlays
def test_pods_may_talk_as_the_drawing_says_and_no_further(overlay):
    sides = allowed(render(overlay))
    inside = {(a, b, port) for a, b, port in sides["ingress"] if a != "world"}
    assert inside == {("app", "api", 8000), ("api", "mlflow", 5000), ("pipeline", "mlflow", 5000)}
    assert inside == {(a, b, port) for a, b, port in sides["egress"] if b != "world"}  # both sides agree
    assert {pair for pair in sides["ingress"] if pair[0] == "world"} == {("world", "api", 8000), ("world", "app", 8866)}
    databases = {a for a, b, port in sides["egress"] if port == 5432}
    assert databases == {"api", "migrate", "mlflow", "pipeline"}


@overlays
def test_nobody_talks_who_is_not_allowed_to(overlay):
    (deny,) = (
        policy["spec"]
        for policy in of_kind(render(overlay), "NetworkPolicy").values()
        if policy["spec"]["podSelector"] == {} and "egress" not in policy["spec"]
    )
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@overlays
def test_every_policy_selects_a_pod_that_exists(overlay):
    labels = labels_of(render(overlay))
    for policy in of_kind(render(overlay), "NetworkPolicy").values():
        rules = [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]
        peers = [
            peer["podSelector"]
            for rule in rules
            for peer in [*rule.get("from", []), *rule.get("to", [])]
            if "podSelector" in peer
        ]
        for selector in [policy["spec"]["podSelector"], *peers]:
            assert any(matches(selector, pod) for pod in labels.values()), (policy["metadata"]["name"], selector)


@overlays
def test_no_policy_lets_the_whole_world_in(overlay):
    for policy in of_kind(render(overlay), "NetworkPolicy").values():
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"]
            for peer in rule["from"]:
                block = peer.get("ipBlock", {}).get("cidr", "10.0.0.0/32")
                assert ipaddress.ip_network(block).prefixlen >= 16


@overlays
def test_a_pod_has_an_account_of_its_own_without_a_token(overlay):
    documents = render(overlay)
    accounts = of_kind(documents, "ServiceAccount")
    assert set(accounts) == PODS | {"secrets"}
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())
    for name, template in pod_templates(documents).items():
        assert template["spec"]["serviceAccountName"] == name
        assert template["spec"]["automountServiceAccountToken"] is False


@overlays
def test_only_the_registry_and_the_reader_of_secrets_act_on_the_cloud(overlay):
    accounts = of_kind(render(overlay), "ServiceAccount")
    assert {name for name, account in accounts.items() if account["metadata"].get("annotations")} == {
        "mlflow",
        "secrets",
    }


@overlays
def test_a_service_called_mlflow_puts_no_variables_into_pods(overlay):
    """Kubernetes would set MLFLOW_PORT to an address, which MLflow takes for a number."""
    assert all(template["spec"]["enableServiceLinks"] is False for template in pod_templates(render(overlay)).values())


@overlays
def test_a_service_finds_its_pods_and_their_port(overlay):
    documents = render(overlay)
    templates = pod_templates(documents)
    for name, service in of_kind(documents, "Service").items():
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
        assert service["spec"]["selector"].items() <= templates[name]["metadata"]["labels"].items()
        ports = {port["name"]: port["containerPort"] for port in templates[name]["spec"]["containers"][0]["ports"]}
        (port,) = service["spec"]["ports"]
        assert ports[port["targetPort"]] == port["port"]


@overlays
def test_the_ingress_leads_to_services_that_exist_over_tls_and_not_to_the_registry(overlay):
    documents = render(overlay)
    services = of_kind(documents, "Service")
    (ingress,) = of_kind(documents, "Ingress").values()
    reached = {}
    for rule in ingress["spec"]["rules"]:
        backend = rule["http"]["paths"][0]["backend"]["service"]
        assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["spec"]["ports"]}
        reached[rule["host"]] = backend["name"]
    assert sorted(reached.values()) == ["api", "app"]
    assert set(ingress["spec"]["tls"][0]["hosts"]) == set(reached)
    assert ingress["spec"].get("ingressClassName") != "unset"


@overlays
def test_the_autoscaler_and_the_budget_speak_of_the_api(overlay):
    documents = render(overlay)
    api = of_kind(documents, "Deployment")["api"]
    scaler = of_kind(documents, "HorizontalPodAutoscaler")["api"]["spec"]
    budget = of_kind(documents, "PodDisruptionBudget")["api"]["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": api["apiVersion"], "kind": "Deployment", "name": "api"}
    assert scaler["minReplicas"] >= 2 > budget["minAvailable"]
    assert matches(budget["selector"], api["spec"]["template"]["metadata"]["labels"])
    assert "replicas" not in api["spec"]  # else each apply would undo what the autoscaler decided
    assert "cpu" in api["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]


@overlays
def test_replicas_of_the_api_are_spread_and_replaced_one_by_one(overlay):
    api = of_kind(render(overlay), "Deployment")["api"]["spec"]
    spread = api["template"]["spec"]["topologySpreadConstraints"]
    assert {rule["topologyKey"] for rule in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    assert all(matches(rule["labelSelector"], api["template"]["metadata"]["labels"]) for rule in spread)
    assert api["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@overlays
def test_every_secret_that_a_pod_reads_is_fetched_from_the_store(overlay):
    documents = render(overlay)
    fetched = {
        (secret["spec"]["target"]["name"], item["secretKey"])
        for secret in of_kind(documents, "ExternalSecret").values()
        for item in secret["spec"]["data"]
    }
    read = {
        (env["valueFrom"]["secretKeyRef"]["name"], env["valueFrom"]["secretKeyRef"]["key"])
        for template in pod_templates(documents).values()
        for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]
        for env in container.get("env", [])
        if "valueFrom" in env
    }
    assert read == fetched
    (store,) = of_kind(documents, "SecretStore")
    used = {secret["spec"]["secretStoreRef"]["name"] for secret in of_kind(documents, "ExternalSecret").values()}
    assert used == {store}


@overlays
def test_everything_lies_in_a_namespace_that_refuses_what_is_not_locked(overlay):
    documents = render(overlay)
    (namespace,) = of_kind(documents, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    inside = [document for document in documents if document["kind"] != "Namespace"]
    assert {document["metadata"]["namespace"] for document in inside} == {namespace["metadata"]["name"]}


@overlays
def test_what_site_says_is_where_it_belongs(overlay):
    """With every placeholder of site.yaml changed, nothing of the old ones is left in what it feeds."""
    site = yaml.safe_load((DEPLOY / "kubernetes" / "overlays" / overlay / "site.yaml").read_text())["data"]
    documents = render(overlay)
    assert "site" not in of_kind(documents, "ConfigMap")
    text = yaml.safe_dump_all(documents)
    (ingress,) = of_kind(documents, "Ingress").values()
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == [site["apiHost"], site["appHost"]]
    policies = of_kind(documents, "NetworkPolicy")
    assert policies["api"]["spec"]["ingress"][0]["from"][0]["ipBlock"]["cidr"] == site["balancerNetwork"]
    assert policies["database"]["spec"]["egress"][0]["to"][0]["ipBlock"]["cidr"] == site["databaseNetwork"]
    for container in containers():
        if container.where == f"kubernetes/{overlay}" and container.name == "api":
            assert container.plain["MLOPS_ALLOWED_HOSTS"] == f'["{site["apiHost"]}","api"]'
            assert f'"{site["balancerNetwork"]}"' in container.plain["MLOPS_TRUSTED_PROXIES"]
        if container.where == f"kubernetes/{overlay}" and container.name == "mlflow":
            assert container.plain["MLFLOW_ARTIFACTS_DESTINATION"] == site["artifacts"]
    assert "the overlay's" not in text


def test_site_reaches_every_place_when_it_changes(tmp_path):
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes")
    file = tmp_path / "kubernetes" / "overlays" / "azure" / "site.yaml"
    file.write_text(file.read_text().replace("example.com", "changed.test").replace("10.1.0.0/24", "10.77.0.0/24"))
    text = yaml.safe_dump_all(render_folder(file.parent))
    assert (text.count("example.com"), text.count("api.changed.test")) == (0, 3)
    assert (text.count("10.1.0.0/24"), text.count("10.77.0.0/24")) == (0, 3)


def commands():
    """The one command that makes the databases, as it stands in Kubernetes and in AWS."""
    return {container.command[-1] for container in containers() if container.name == "databases"}


def test_both_places_that_make_the_databases_do_the_same():
    assert len(commands()) == 1


@pytest.mark.slow
def test_databases_are_made_once_and_left_alone_afterwards(postgres):
    (command,) = commands()
    for _ in range(2):
        environment = {**os.environ, "SERVER_URL": postgres.replace("+psycopg", "")}
        done = subprocess.run(
            [sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    with psycopg.connect(postgres.replace("+psycopg", "")) as server:
        names = {name for (name,) in server.execute("SELECT datname FROM pg_database")}
    assert {"accounts", "mlflow", "optuna", "predictions"} <= names
