"""What a finished run leaves: files that others read, in the shape that is promised."""

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from project import CHECKOUT, STAGES, Done, Project, stages_run
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

SCORES = ("log_loss", "roc_auc", "brier", "ece")
BASELINES = ("base rate", "logistic regression", "default boosting")
PAGES = ("reports/index.html", *(f"reports/notebooks/{name}.html" for name in STAGES.values()))
# What a browser fetches without being asked. A plain link is not among it.
FETCHED = {"src", "srcset", "poster", "data", "background", "manifest", "xlink:href"}
FETCHED_HREF = {"link", "image", "use", "base"}
REMOTE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)


class Fetches(HTMLParser):
    """Collects every address that opening a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        for name, value in attrs:
            if name in FETCHED or (name == "href" and tag in FETCHED_HREF):
                self.found.append(value or "")
            if name == "style":
                self._styles(value or "")

    def handle_data(self, data: str) -> None:
        if self._open == "style":
            self._styles(data)
        if self._open == "script":
            self.found += re.findall(r"""(?:import\(|fetch\(|\.src\s*=|from|require\()\s*["'](https?:[^"']+)""", data)

    def _styles(self, text: str) -> None:
        self.found += re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", text)

    @property
    def remote(self) -> list[str]:
        return [address for address in self.found if REMOTE.match(address)]


@pytest.fixture(scope="module")
def ran(finished: tuple[Project, Done]) -> Project:
    return finished[0]


@pytest.fixture(scope="module")
def scores(ran: Project) -> dict:
    return json.loads(ran.path("reports/metrics/train.json").read_text())


def test_the_summary_names_the_champion_and_every_baseline(finished: tuple[Project, Done], scores: dict) -> None:
    _, done = finished
    assert "Champion: flights version 1 (the first version)" in done.out
    for name in BASELINES:
        assert name in done.out
    for name in SCORES:
        assert f"{scores['test'][name]:.4f}" in done.out
    assert "reports/index.html" in done.out


def test_the_stages_run_in_their_order_with_tuning_before_training(finished: tuple[Project, Done]) -> None:
    said = stages_run(finished[1])
    assert set(said) == set(STAGES)
    before = [("ingest", "preprocess"), ("ingest", "version"), ("preprocess", "track"), ("preprocess", "tune")]
    for first, second in [*before, ("tune", "train"), ("train", "serve"), ("train", "deploy"), ("train", "frontend")]:
        assert said.index(first) < said.index(second)


def test_a_run_without_trouble_says_nothing_on_its_error_stream(finished: tuple[Project, Done]) -> None:
    assert finished[1].err.strip() == ""


@pytest.mark.parametrize("whose", ["test", *BASELINES])
def test_every_score_stands_between_its_bounds(scores: dict, whose: str) -> None:
    values = scores["test"] if whose == "test" else scores["baselines"][whose]
    for name in SCORES:
        assert values[f"{name}_low"] <= values[f"{name}_high"]
        if name != "ece":  # a resample of days can only add to a calibration error
            assert values[f"{name}_low"] <= values[name] <= values[f"{name}_high"]


def test_the_model_has_an_interval_of_some_width(scores: dict) -> None:
    for name in SCORES:
        assert scores["test"][f"{name}_low"] < scores["test"][f"{name}_high"]


def test_the_scores_can_be_computed_again_from_the_predictions(ran: Project, scores: dict) -> None:
    table = pd.read_parquet(ran.path("reports/test_predictions.parquet"))
    truth = (table["truth"] == "late").to_numpy()
    late = table[next(name for name in table.columns if name.endswith("late"))].to_numpy()
    assert log_loss(truth, late) == pytest.approx(scores["test"]["log_loss"], abs=1e-9)
    assert roc_auc_score(truth, late) == pytest.approx(scores["test"]["roc_auc"], abs=1e-9)
    assert brier_score_loss(truth, late) == pytest.approx(scores["test"]["brier"], abs=1e-9)


def test_the_predictions_are_of_the_test_rows_each_once(ran: Project) -> None:
    table = pd.read_parquet(ran.path("reports/test_predictions.parquet"))
    test = pd.read_parquet(ran.path("data/processed/flights/test.parquet"))
    assert table["id"].is_unique
    assert sorted(table["id"]) == sorted(test["flight_id"])
    probabilities = table.select_dtypes("number").to_numpy()
    assert probabilities.shape[1] == 2
    assert np.allclose(probabilities.sum(axis=1), 1)


def test_the_test_rows_are_later_than_all_others(ran: Project) -> None:
    parts = {
        name: pd.read_parquet(ran.path(f"data/processed/flights/{name}.parquet"))["sched_dep"]
        for name in ("train", "calibrate", "test")
    }
    assert max(parts["train"].max(), parts["calibrate"].max()) < parts["test"].min()
    assert not set(parts["train"].dt.date) & set(parts["calibrate"].dt.date)


@pytest.mark.parametrize("name", ["flights", "weather", "planes", "airports", "airlines"])
def test_no_row_is_lost_between_source_and_quarantine(ran: Project, name: str) -> None:
    source = pd.read_parquet(ran.path(f"data/source/nycflights13/{name}.parquet"))
    accepted = pd.read_parquet(ran.path(f"data/raw/flights/{name}.parquet"))
    quarantined = pd.read_parquet(ran.path(f"data/quarantine/{name}.parquet"))
    assert "reason" in quarantined.columns
    assert quarantined["reason"].fillna("").str.len().gt(0).all()
    assert len(source) == len(accepted) + len(quarantined)
    counts = json.loads(ran.path("reports/metrics/ingest.json").read_text())[name]
    assert counts == {"read": len(source), "accepted": len(accepted), "quarantined": len(quarantined)}


@pytest.mark.parametrize("name", ["reports/model_card.md", "reports/profile.html", "dvc.lock", "mlflow.db"])
def test_the_run_writes(ran: Project, name: str) -> None:
    assert ran.path(name).stat().st_size > 100


def test_the_card_states_the_model_s_own_score(ran: Project, scores: dict) -> None:
    assert f"{scores['test']['log_loss']:.4f}" in ran.path("reports/model_card.md").read_text()


def test_the_evaluation_says_what_the_run_found(ran: Project, scores: dict) -> None:
    found = json.loads(ran.path("data/models/flights/evaluation.json").read_text(encoding="utf-8"))
    assert found["scores"] == {"this model": scores["test"], **scores["baselines"]}
    assert found["coverage"] == {"stated": scores["stated_coverage"], "observed": scores["coverage"]}
    test = pd.read_parquet(ran.path("data/processed/flights/test.parquet"))
    assert found["rows"] == len(test) == sum(point["rows"] for point in found["reliability"])
    assert (found["first_day"], found["last_day"]) == tuple(
        str(test["sched_dep"].agg(way).date()) for way in ("min", "max")
    )
    assert sum(line["rows"] for line in found["slices"] if line["slice"] == "origin") == len(test)
    assert found["card"] == ran.path("reports/model_card.md").read_text(encoding="utf-8")


def test_the_registered_version_keeps_that_evaluation(ran: Project) -> None:
    tags = ran.query("mlflow.db", "select value from model_version_tags where key = 'evaluation_sha256'")
    file = ran.path("data/models/flights/evaluation.json").read_bytes()
    assert tags == [(hashlib.sha256(file).hexdigest(),)]
    (kept,) = ran.path("mlartifacts").rglob("evaluation.json")
    assert kept.read_bytes() == file


def test_airlines_and_airports_are_called_by_their_names(ran: Project) -> None:
    schema = json.loads(ran.path("data/processed/flights/schema.json").read_text(encoding="utf-8"))
    names = {column["name"]: column["names"] for column in schema["columns"]}
    assert names["carrier"]["EV"] == "ExpressJet Airlines Inc."
    assert names["origin"]["LGA"] == "La Guardia"
    assert {name for name, known in names.items() if known} == {"carrier", "origin", "dest"}
    assert schema["target_label"] == "Arrival"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_without_a_network(ran: Project, page: str) -> None:
    reader = Fetches()
    reader.feed(ran.path(page).read_text(encoding="utf-8"))
    assert reader.remote == []


def test_the_reader_of_pages_notices_what_a_browser_would_load() -> None:
    page = """<link href="https://a/x.css"><a href="https://b">b</a><img src='//c/x.png'>
    <style>@import "http://d/x"; body { background: url(https://e/x) }</style>
    <script src="https://f/x.js"></script><script>import("https://g/x")</script><p style="background:url('//h/x')">"""
    reader = Fetches()
    reader.feed(page)
    assert [address.rpartition("/")[0][-1] for address in reader.remote] == list("acdefgh")


def test_the_index_links_only_to_files_that_are_there(ran: Project) -> None:
    links = re.findall(r'href="([^"]+)"', ran.path("reports/index.html").read_text(encoding="utf-8"))
    assert len(links) >= len(STAGES)
    for link in links:
        assert ran.path("reports").joinpath(link).is_file(), link


def test_the_index_shows_its_pictures(ran: Project) -> None:
    assert ran.path("reports/index.html").read_text(encoding="utf-8").count("data:image/png;base64,") >= 5


def test_an_executed_notebook_holds_no_path_of_this_machine(ran: Project, stage: str) -> None:
    for path in (ran.executed(stage), ran.executed(stage).with_suffix(".html")):
        text = path.read_text(encoding="utf-8")
        for folder in {str(ran.root), str(ran.root.resolve()), str(Path.home()) + "/", "/tmp/", str(CHECKOUT)}:
            assert folder not in text, f"{path.name} names {folder}"


def test_an_executed_notebook_holds_no_time_of_day(ran: Project, stage: str) -> None:
    notebook = json.loads(ran.executed(stage).read_text(encoding="utf-8"))
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        assert not re.search(r"20[2-9]\d-\d\d-\d\d", json.dumps(cell.get("outputs", [])))


def test_an_executed_notebook_ran_every_cell_without_warnings(ran: Project, stage: str) -> None:
    code = [
        cell
        for cell in json.loads(ran.executed(stage).read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code" and cell["source"]
    ]
    assert all(cell["execution_count"] for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"] == []


def test_the_last_section_of_an_executed_notebook_states_numbers(ran: Project, stage: str) -> None:
    cells = json.loads(ran.executed(stage).read_text(encoding="utf-8"))["cells"]
    at = next(i for i, cell in enumerate(cells) if "## What we learned" in "".join(cell["source"]))
    assert re.search(r"\d", json.dumps(cells[at + 1].get("outputs", cells[at]["source"])))


def test_no_draft_is_left(ran: Project) -> None:
    left = [path for path in ran.root.rglob("*") if path.name.endswith((".tmp", ".draft", ".failed.ipynb"))]
    assert left == []
    assert not list(ran.path(".mlops").glob("progress-*"))
    assert not list(ran.path(".mlops").glob("*.ipynb"))


def test_a_run_touches_nothing_that_git_tracks_but_its_metrics(ran: Project) -> None:
    changed = [line[3:] for line in ran.git("status", "--porcelain").out.splitlines()]
    assert [name for name in changed if not name.startswith(("reports/", "dvc.lock"))] == []


def test_dvc_finds_everything_up_to_date(used: Project) -> None:
    done = used.dvc("status")
    assert done.code == 0, done
    assert "up to date" in done.out + done.err


def test_dvc_shows_the_metrics(used: Project, scores: dict) -> None:
    done = used.dvc("metrics", "show", "--json")
    assert done.code == 0, done
    shown = json.loads(done.out)[""]["data"]["reports/metrics/train.json"]["data"]
    assert shown["test"]["log_loss"] == scores["test"]["log_loss"]


def test_dvc_draws_the_plots(used: Project) -> None:
    done = used.dvc("plots", "show", "--out", "plots")
    assert done.code == 0, done
    page = used.path("plots/index.html").read_text(encoding="utf-8")
    for name in ("trials", "reliability", "importance"):
        assert f"reports_plots_{name}_csv" in page


def test_a_second_run_does_nothing_and_leaves_every_byte(used: Project) -> None:
    before, versions = used.hashes(), used.versions()
    runs = used.query("mlflow.db", "select count(*) from runs")
    done = used.mlops("run")
    assert done.code == 0, done
    assert stages_run(done) == []
    assert "Champion: flights version 1" in done.out
    assert used.hashes() == before
    assert used.versions() == versions
    assert used.query("mlflow.db", "select count(*) from runs") == runs


def test_a_forced_run_gives_the_same_bytes(used: Project) -> None:
    stages = ("ingest", "preprocess", "track")
    outputs = [f"reports/notebooks/{STAGES[stage]}.ipynb" for stage in stages]
    outputs += ["data/raw", "data/processed", "data/quarantine", "reports/metrics"]
    before = used.hashes(*outputs)
    done = used.mlops("run", "--force", "--stage", "track")
    assert done.code == 0, done
    assert stages_run(done) == list(stages)
    assert {name for name, found in used.hashes(*outputs).items() if found != before[name]} == set()


@pytest.mark.parametrize("stage", ["ingest", "preprocess", "version", "track"])
def test_a_stage_that_is_started_anew_gives_the_bytes_of_the_forked_one(used: Project, stage: str) -> None:
    names = [f"reports/notebooks/{STAGES[stage]}.{kind}" for kind in ("ipynb", "html")]
    before = used.hashes(*names)
    done = used.mlops("stage", stage)
    assert done.code == 0, done
    assert used.hashes(*names) == before


def test_the_same_training_is_registered_once_however_often_it_runs(used: Project) -> None:
    before = used.versions()
    done = used.mlops("stage", "train")
    assert done.code == 0, done
    assert used.versions() == before


def test_a_lost_registry_is_filled_again_from_the_bundle_on_disk(used: Project) -> None:
    ((_, identity),) = used.versions()
    for path in used.root.glob("mlflow.db*"):
        path.unlink()
    done = used.mlops("run")
    assert done.code == 0, done
    assert stages_run(done) == []
    assert used.versions() == [(1, identity)]
    assert used.champion() == 1
