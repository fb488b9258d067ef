"""Writes the numbers in README.md from the files that the last run and the last benchmark left."""

import json
import re
from pathlib import Path

from benchmarks.__main__ import RESULTS
from benchmarks.measure import ROOT
from mlops_core.params import load_params
from mlops_core.paths import Paths
from mlops_core.reports import read_metrics

BLOCK = re.compile(r"(<!-- numbers: begin[^\n]*-->\n).*?(<!-- numbers: end -->)", re.DOTALL)
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


def _speed(results: dict[str, dict[str, float]]) -> list[str]:
    commands, series, score = results["commands"], results["series"], results["score"]
    rate = score["rows"] / score["score_file, Parquet to Parquet"]
    return [
        f"On {results['machine']['cores']} cores: a run with nothing to do {commands['mlops run, nothing to do']:.1f} s "
        f"(plain `dvc repro`: {commands['dvc repro, nothing to do (floor)']:.1f} s); a notebook as a stage costs "
        f"{series['overhead per notebook']:.1f} s above the same calls in one process; `mlops score` {rate:,.0f} rows/s; "
        f"`mlops --help` {commands['mlops --help'] * 1000:.0f} ms.",
    ]


def main() -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(BLOCK.sub(lambda match: match[1] + render_numbers(ROOT) + match[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
