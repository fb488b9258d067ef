"""What Prometheus reads: bounded labels, rows by version, the state of model and registry."""

import time
from collections import Counter
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families
from service import Service, example, problem

from api.metrics import Metrics


@pytest.fixture
def watched(service: Service) -> Service:
    service.account("mon", "monitor")
    return service


def read(service: Service) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    response = service.client.get("/metrics", headers=service.bearer("mon"))
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(response.text)
    return {(item.name, frozenset(item.labels.items())): item.value for family in families for item in family.samples}


def value(service: Service, name: str, **labels: str) -> float:
    return read(service).get((name, frozenset(labels.items())), 0.0)


def test_only_the_monitor_scope_reads_them(watched: Service) -> None:
    problem(watched.client.get("/metrics"), 401)
    problem(watched.client.get("/metrics", headers=watched.bearer("root")), 403)
    assert watched.client.get("/metrics", headers=watched.bearer("mon")).status_code == 200


def test_requests_are_counted_by_the_template_of_their_route(watched: Service) -> None:
    root = watched.bearer("root")
    for name in ("a", "b"):
        watched.client.delete(f"/admin/users/{name}", headers=root)
    labels = {"method": "DELETE", "route": "/admin/users/{user_id}", "status": "404"}
    assert value(watched, "mlops_http_requests_total", **labels) == 2
    assert value(watched, "mlops_http_request_seconds_count", method="DELETE", route=labels["route"]) == 2


def test_strangers_make_no_new_time_series(watched: Service) -> None:
    for path in ("/x1", "/x2", "//evil", "/v1/%00"):
        watched.client.get(path)
    watched.client.request("BREW", "/x3")
    watched.client.request("BREW", "/x4", headers={"host": "evil.example"})
    found = {labels for name, labels in read(watched) if name == "mlops_http_requests_total"}
    assert not any("x1" in text or "evil" in text or text == "BREW" for labels in found for _, text in labels)
    assert value(watched, "mlops_http_requests_total", method="GET", route="unmatched", status="404") == 4
    assert value(watched, "mlops_http_requests_total", method="OTHER", route="unmatched", status="400") == 1


def test_rows_are_counted_by_version(watched: Service) -> None:
    headers = watched.bearer("ada")
    row = example(watched, headers)
    for path, rows in (("/v1/predict", 3), ("/v1/explain", 2), ("/invocations", 1)):
        watched.client.post(path, json={"instances": [row] * rows}, headers=headers)
    watched.client.post("/v1/predict", json={"instances": [{"nobody": 1}]}, headers=headers)
    assert value(watched, "mlops_predictions_total", model="small", version="1") == 6


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain"])
def test_rows_are_counted_by_the_label_they_got(watched: Service, path: str) -> None:
    headers = watched.bearer("ada")
    body = {"instances": [{**example(watched, headers), "amount": float(amount)} for amount in range(0, 100, 20)]}
    got = watched.client.post(path, json=body, headers=headers).json()["predictions"]
    for label, rows in Counter(entry["label"] for entry in got).items():
        assert value(watched, "mlops_predicted_labels_total", model="small", version="1", label=label) == rows


def test_answered_numbers_are_counted_and_added_up(serve: Callable[..., Service]) -> None:
    service = serve("regression")
    service.account("ada", "predict")
    service.account("mon", "monitor")
    headers, labels = service.bearer("ada"), {"model": "small", "version": "1"}
    body = {"instances": [example(service, headers)] * 3}
    got = service.client.post("/v1/predict", json=body, headers=headers).json()["predictions"]
    assert value(service, "mlops_predicted_value_count", **labels) == 3
    assert value(service, "mlops_predicted_value_sum", **labels) == pytest.approx(sum(entry["value"] for entry in got))
    assert not any(name == "mlops_predicted_labels_total" for name, _ in read(service))


def test_who_finds_no_place_in_the_queue_is_counted(serve: Callable[..., Service]) -> None:
    service = serve(settings={"waiting": 0, "workers": 1})
    service.account("ada", "predict")
    service.account("mon", "monitor")
    headers = service.bearer("ada")
    row = example(service, headers)
    with service.client.app.state.api.admission.place():  # type: ignore[attr-defined]
        problem(service.client.post("/v1/predict", json={"instances": [row]}, headers=headers), 503)
    assert value(service, "mlops_predictions_refused_total") == 1
    assert value(service, "mlops_predictions_room") == 1


def test_the_age_of_the_model_is_that_of_its_registration_not_of_the_process(serve: Callable[..., Service]) -> None:
    service = serve(facts={"registered_at": "2013-07-01T12:00:00+00:00"})
    service.account("mon", "monitor")
    assert value(service, "mlops_model_registered_timestamp_seconds") == 1372680000


def test_the_served_version_is_named_and_dated(watched: Service) -> None:
    served = watched.slot.require()
    labels = {"model": "small", "version": "1", "digest": served.predictor.digest}
    assert value(watched, "mlops_model_info", **labels) == 1
    assert 0 <= time.time() - value(watched, "mlops_model_loaded_timestamp_seconds") < 600


def test_trouble_with_registry_and_versions_shows(watched: Service) -> None:
    assert value(watched, "mlops_registry_down_since_timestamp_seconds") == 0
    watched.registry.alias = 9  # not there
    watched.slot.refresh()
    assert value(watched, "mlops_model_refused_versions") == 1
    watched.registry.down = True
    watched.slot.refresh()
    assert value(watched, "mlops_registry_down_since_timestamp_seconds") > 0


@pytest.mark.parametrize(
    "name",
    [
        "mlops_predictions_admitted",
        "mlops_predictions_waiting",
        "mlops_prediction_log_waiting",
        "mlops_prediction_log_spooled",
        "mlops_prediction_log_written_total",
        "mlops_prediction_log_lost_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
    ],
)
def test_the_process_and_its_queues_are_part_of_it(watched: Service, name: str) -> None:
    assert (name, frozenset()) in read(watched)


def test_without_a_model_there_is_no_model_to_name(serve: Callable[..., Service]) -> None:
    service = serve(loaded=False, alias=None)
    service.account("mon", "monitor")
    assert not any(name == "mlops_model_info" for name, _ in read(service))


def test_two_services_in_one_process_count_apart(serve: Callable[..., Service]) -> None:
    first, second = serve(), serve()
    first.account("mon", "monitor")
    second.client.get("/livez")
    assert value(first, "mlops_http_requests_total", method="GET", route="/livez", status="200") == 0


def test_counting_a_request_costs_less_than_ten_microseconds() -> None:
    metrics = Metrics()

    def batch() -> float:
        started = time.process_time()
        for _ in range(2000):
            metrics.observe("POST", "/v1/predict", 200, 0.003)
        return (time.process_time() - started) / 2000

    assert min(batch() for _ in range(5)) < 10e-6
