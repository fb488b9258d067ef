"""Writes the numbers in README.md from what the last run and benchmark left, and the answer to its own example."""

import json
import os
import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.__main__ import RESULTS
from benchmarks.images import RESULTS as IMAGES
from benchmarks.measure import ROOT
from mlops_core.frontend.camera import OPTIONS, find_browser
from mlops_core.package import LOCKS
from mlops_core.params import load_params
from mlops_core.paths import Paths
from mlops_core.pipeline.throwaway import open_registry, register_copy
from mlops_core.registry.champions import promote
from mlops_core.reports import read_metrics
from mlops_core.serve.rehearsal import start_service

EXAMPLE = re.compile(r"```bash\n(.*?)```", re.DOTALL)
ANSWER = re.compile(r"(<!-- answer: begin[^\n]*-->\n).*?(<!-- answer: end -->)", re.DOTALL)
BLOCK = re.compile(r"(<!-- numbers: begin[^\n]*-->\n).*?(<!-- numbers: end -->)", re.DOTALL)
TABLE = re.compile(r"(<!-- images: begin[^\n]*-->\n).*?(<!-- images: end -->)", re.DOTALL)
NAMES = {"log_loss": "log-loss", "roc_auc": "ROC-AUC", "brier": "Brier", "ece": "calibration error"}


def render_numbers(root: Path) -> str:
    """The README's generated block."""
    metrics = read_metrics(Paths(root, load_params(root=root).dataset), "train")
    lines = [
        "On November and December, which nobody had looked at, with 95 % intervals from resampled days:",
        "",
        "| | " + " | ".join(NAMES.values()) + " |",
        "|---|" + "---|" * len(NAMES),
    ]
    for name, scores in {"**the champion**": metrics["test"], **metrics["baselines"]}.items():
        cells = [f"{scores[key]:.4f} ({scores[f'{key}_low']:.3f} to {scores[f'{key}_high']:.3f})" for key in NAMES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    rival = metrics["beats"]
    lines += [
        "",
        f"Against the best baseline, {rival['baseline']}, on the same resamples: log-loss {rival['difference']:+.4f} "
        f"({rival['low']:+.4f} to {rival['high']:+.4f}). The {metrics['stated_coverage']:.0%} prediction sets held the truth in {metrics['coverage']:.1%}.",
    ]
    if RESULTS.is_file():
        lines += ["", *_speed(json.loads(RESULTS.read_text(encoding="utf-8")))]
    return "\n".join(lines) + "\n"


def render_images(results: dict[str, dict[str, float]]) -> str:
    """The README's table of images."""
    base = results["base"]
    what = "a local stand-in for its base image" if base["local stand-in"] else "its base image"
    lines = ["| image | MB above its base | built from nothing | after an edit |", "|---|---|---|---|"]
    for target in LOCKS:
        part = results[target]
        times = f"{part['build from nothing, s']:.0f} s | {part['after an edit, s']:.1f} s"
        lines.append(f"| `mlops-{target}` | {part['MB above base']:,.0f} | {times} |")
    lines += [
        "",
        f"Measured on {what} ({base['MB']:,.0f} MB); an unchanged checkout takes {results['api']['unchanged (floor), s']:.1f} s.",
    ]
    return "\n".join(lines) + "\n"


def _speed(results: dict[str, dict[str, float]]) -> list[str]:
    commands, series, score, page = (results[name] for name in ("commands", "series", "score", "page"))
    kernel = page["a visitor's kernel, MB"]
    rate = score["rows"] / score["score_file, Parquet to Parquet"]
    return [
        f"On {results['machine']['cores']} cores: a run with nothing to do {commands['mlops run, nothing to do']:.1f} s "
        f"(plain `dvc repro`: {commands['dvc repro, nothing to do (floor)']:.1f} s); a notebook as a stage costs "
        f"{series['overhead per notebook']:.1f} s above the same calls in one process; `mlops score` {rate:,.0f} rows/s; "
        f"`mlops --help` {commands['mlops --help'] * 1000:.0f} ms.",
        "",
        f"Requests per second, with log and authentication on: {_rates(results['serving'])}.",
        "",
        f"The page is usable after {page['usable, warm kernel and cache, s']:.1f} s (cold {page['usable, cold kernel and empty cache, s']:.1f} s); "
        f"a change has its charts after {page['change to drawn chart, median ms']:.0f} ms (p95 {page['change to drawn chart, p95 ms']:.0f} ms); "
        f"a visitor takes {kernel:.0f} MB.",
    ]


def _rates(serving: dict[str, float]) -> str:
    cases = {
        "one row": "(c) predict, 1 row",
        "the same with a stub for the model": "(b) stub",
        "a bare FastAPI route": "(a) bare FastAPI route",
        "`mlflow models serve`": "(f) mlflow models serve",
    }
    return "; ".join(
        f"{what} {serving[f'{case}, 1 connections: req/s']:,.0f} at 1 connection, {serving[f'{case}, 16 connections: req/s']:,.0f} at 16"
        for what, case in cases.items()
    )


def run_example(text: str, folder: Path, port: int) -> str:
    """What the README's commands print, to the letter, with port 8000 led to a server's own."""
    (folder / ".curlrc").write_text(f"connect-to = 127.0.0.1:8000:127.0.0.1:{port}\n", encoding="ascii")
    found = EXAMPLE.search(text)
    assert found, "README.md has no ```bash block"
    environment = {**os.environ, "CURL_HOME": str(folder)}
    done = subprocess.run(
        ["bash", "-eu", "-c", found[1]], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def render_answer(text: str) -> str:
    """The README's example, answered by the bundle on disk through a real server."""
    paths = Paths(ROOT, load_params(root=ROOT).dataset)
    service = start_service(ROOT)
    with closing(service):
        store = open_registry(service.root)
        promote(store, paths.dataset, register_copy(store, paths, paths.bundle), "for the README")
        service.wait_for_model()
        return f"```json\n{run_example(text, service.root, service.port)}\n```\n"


def draw_index(page: Path, picture: Path) -> None:
    """The first screen of the run at a glance."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=OPTIONS)
        tab = browser.new_page(viewport={"width": 1280, "height": 1180})
        tab.goto(page.as_uri())
        tab.screenshot(path=picture)
        browser.close()
    Image.open(picture).quantize(64).save(picture, optimize=True)


def main() -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    answer = render_answer(text)
    text = ANSWER.sub(lambda match: match[1] + answer + match[2], text)
    if IMAGES.is_file():
        table = render_images(json.loads(IMAGES.read_text(encoding="utf-8")))
        text = TABLE.sub(lambda match: match[1] + table + match[2], text)
    draw_index(ROOT / "reports" / "index.html", ROOT / "docs" / "images" / "index.png")
    picture = ROOT / "reports" / "page" / "ask.png"
    if picture.is_file():
        shutil.copyfile(picture, ROOT / "docs" / "images" / "page.png")
    path.write_text(BLOCK.sub(lambda match: match[1] + render_numbers(ROOT) + match[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
