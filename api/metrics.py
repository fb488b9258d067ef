"""Prometheus numbers of one service: its own registry of collectors, counted per request in microseconds."""

import threading
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from api.dependencies import State
    from api.serving import Served
    from mlops_core.serve.predictor import Doubles

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
UNMATCHED = "unmatched"  # one label for every path that is no route: a stranger must not make new time series


class Metrics:
    """What is counted as it happens; gauges are read when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "mlops_http_requests", "Answered requests.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "mlops_http_request_seconds",
            "Time from the head of a request to the end of its answer.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._rows = Counter("mlops_predictions", "Answered rows.", ("model", "version"), registry=self.registry)
        self._labels = Counter(
            "mlops_predicted_labels",
            "Answered rows by the label they got; as many series as the target has classes.",
            ("model", "version", "label"),
            registry=self.registry,
        )
        self.values: dict[tuple[str, str], tuple[int, float]] = {}  # answered numbers: how many, and their sum
        self._values_lock = threading.Lock()
        self._versions: dict[tuple[str, int], Any] = {}
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        ProcessCollector(registry=self.registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts an answer; `route` is the template of the path, empty where none matched."""
        children = self._children.get((method, route, status))
        if children is None:
            name, template = method if method in METHODS else "OTHER", route or UNMATCHED
            key = name, template, status
            children = self._requests.labels(*map(str, key)), self._seconds.labels(name, template)
            if name == method:
                self._children[method, route, status] = children
        children[0].inc()
        children[1].observe(seconds)

    def count_rows(self, served: "Served", answer: "Doubles", labels: Sequence[str] | None) -> None:
        """Counts rows that a version answered, and what it said: without labels, `answer` holds numbers."""
        model, version = served.name, served.version
        if (model, version) not in self._versions:
            self._versions[model, version] = self._rows.labels(model, str(version))
        self._versions[model, version].inc(len(answer))
        for label, rows in Tally(labels or ()).items():
            self._labels.labels(model, str(version), label).inc(rows)
        if labels is None:
            with self._values_lock:  # predictions run in several threads
                count, total = self.values.get((model, str(version)), (0, 0.0))
                self.values[model, str(version)] = count + len(answer), total + float(answer.sum())

    def watch(self, state: "State") -> None:
        """From now on the gauges of a running service are part of the text."""
        self.registry.register(_Gauges(state))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Gauges(Collector):
    """The moment's state of a service."""

    def __init__(self, state: "State") -> None:
        self.state = state

    def collect(self) -> Iterator[Metric]:
        yield from self._admission()
        yield from self._model()
        yield from self._prediction_log()
        yield from self._accounts()

    def _admission(self) -> Iterator[Metric]:
        admission = self.state.admission
        yield _gauge("mlops_predictions_admitted", "Predictions at work or waiting.", admission.admitted)
        waiting = max(0, admission.admitted - admission.workers)
        yield _gauge("mlops_predictions_waiting", "Predictions that wait for a worker.", waiting)
        yield _gauge("mlops_predictions_room", "Predictions that may be at work or waiting at once.", admission.room)
        text = "Predictions that found no place, or whose time was up."
        yield CounterMetricFamily("mlops_predictions_refused", text, admission.refused)

    def _model(self) -> Iterator[Metric]:
        slot = self.state.slot
        served = slot.current
        yield _gauge("mlops_model_refused_versions", "Versions that failed their checks.", len(slot.refused))
        since = slot.registry_down_since or 0.0
        yield _gauge("mlops_registry_down_since_timestamp_seconds", "0 while the registry answers.", since)
        yield _gauge("mlops_registry_alias_missing", "1 while no version has the alias.", slot.alias_missing)
        info = GaugeMetricFamily("mlops_model_info", "The served version.", labels=("model", "version", "digest"))
        if served:
            info.add_metric((served.name, str(served.version), served.predictor.digest), 1)
            yield _gauge("mlops_model_loaded_timestamp_seconds", "When it was loaded.", served.loaded_at)
            if registered := served.facts.get("registered_at"):
                moment = datetime.fromisoformat(registered).timestamp()
                yield _gauge("mlops_model_registered_timestamp_seconds", "When it was registered.", moment)
        yield info
        values = SummaryMetricFamily("mlops_predicted_value", "Answered numbers.", labels=("model", "version"))
        for key, (count, total) in self.state.metrics.values.copy().items():
            values.add_metric(key, count, total)
        yield values

    def _prediction_log(self) -> Iterator[Metric]:
        log = self.state.log
        yield _gauge("mlops_prediction_log_waiting", "Answered requests that are in memory only.", log.waiting)
        yield _gauge("mlops_prediction_log_spooled", "Answered requests that wait in files.", log.spooled)
        size = log.spool.bytes
        yield _gauge("mlops_prediction_log_spooled_bytes", "Size of these files; at 256 MiB answers stop.", size)
        yield CounterMetricFamily("mlops_prediction_log_written", "Requests written to the database.", log.written)
        yield CounterMetricFamily("mlops_prediction_log_lost", "Requests that could not be kept.", log.lost)
        since = log.database_down_since or 0.0
        yield _gauge("mlops_prediction_log_down_since_timestamp_seconds", "0 while its database answers.", since)

    def _accounts(self) -> Iterator[Metric]:
        since = self.state.callers.down_since or 0.0
        yield _gauge("mlops_accounts_down_since_timestamp_seconds", "0 while their database answers.", since)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)
