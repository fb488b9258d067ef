"""What docs/own-table.md tells to type, typed: from a CSV to answers over HTTP, and back to the flights' own model."""

import json
import re
from shutil import which

import pandas as pd
import pytest
from project import CHECKOUT, Done, Project, end_group, wait_until

PAGE = (CHECKOUT / "docs" / "own-table.md").read_text(encoding="utf-8")
RUN, SCORE, ASK, SEND = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
SCORED = ["label", "confidence", "prediction_set"]
ADDRESS = re.compile(r"API on http://127\.0\.0\.1:(\d+)")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def birds(sources: Project, copier) -> tuple[Project, Done]:
    """A project in which the page's first commands were typed."""
    project = copier(sources)
    done = project.run("bash", "-eu", "-c", RUN, timeout=300)
    assert done.code == 0, done
    return project, done


def test_the_series_ends_with_a_champion_of_its_own(birds: tuple[Project, Done]) -> None:
    project, done = birds
    assert "Champion: birds version 1" in done.out
    scores = json.loads(project.path("reports/metrics/train.json").read_text())
    assert scores["test"]["log_loss"] < scores["baselines"]["base rate"]["log_loss"] / 2
    assert scores["test"]["log_loss_low"] <= scores["baselines"]["default boosting"]["log_loss"]
    page = json.loads(project.path("reports/metrics/frontend.json").read_text())
    assert page["fields_moved"] == 7


def test_a_table_is_scored(birds: tuple[Project, Done]) -> None:
    project, _ = birds
    done = project.run("bash", "-eu", "-c", SCORE)
    assert done.code == 0, done
    scored = pd.read_csv(project.path("scored.csv"))
    truth = pd.read_csv(project.path("data/source/penguins/penguins.csv"))["species"]
    assert len(scored) == len(truth)
    assert (scored["label"] == truth).mean() > 0.9


@pytest.mark.skipif(which("curl") is None, reason="there is no curl on this machine")
def test_it_answers_over_http(birds: tuple[Project, Done]) -> None:
    project, _ = birds
    assert project.run("bash", "-eu", "-c", SCORE).code == 0
    process = project.start("sh", "-c", "exec mlops serve --port 0 >serve.log 2>&1")
    log = project.path("serve.log")
    try:
        wait_until(lambda: log.exists() and "model swapped" in log.read_text(), 60, "the champion is served")
        project.path("curl").mkdir()
        (port,) = ADDRESS.findall(log.read_text())
        project.write("curl/.curlrc", f"connect-to = 127.0.0.1:8000:127.0.0.1:{port}\n")
        done = project.run("bash", "-eu", "-c", f"{ASK}\n{SEND}", CURL_HOME=str(project.path("curl")))
    finally:
        end_group(process, 15)
        process.communicate(timeout=30)
    answer = json.loads(done.out)
    assert answer["model"] == {"name": "birds", "version": 1}
    assert answer["predictions"][0]["label"] == "Chinstrap"
    sent = pd.read_csv(project.path("answers.csv"))
    pd.testing.assert_frame_equal(sent[SCORED], pd.read_csv(project.path("scored.csv"))[SCORED], atol=1e-6)


def test_run_again_nothing_is_done(birds: tuple[Project, Done]) -> None:
    project, _ = birds
    done = project.run("bash", "-eu", "-c", RUN, timeout=120)
    assert done.code == 0, done
    assert "nothing" in done.out
    assert "01 ingest" not in done.out + done.err
