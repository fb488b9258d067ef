"""The rehearsal as a picture: who answered how many requests a second, and where the gates stood."""

import http.client
from collections.abc import Mapping
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlops_core.deploy.acts import Record
from mlops_core.deploy.proxy import BLUE, GREEN
from mlops_core.deploy.release import FAULT
from mlops_core.figures import BLUE as BLUE_INK
from mlops_core.figures import DPI, GREY, ORANGE
from mlops_core.figures import GREEN as GREEN_INK
from mlops_core.serve.traffic import Seen, Traffic

BIN_SECONDS = 0.25


def release_figure(in_place: Traffic, record: Record | None) -> Figure:
    """Above what callers see when the process is replaced, below the acts of the rehearsal, if there was one."""
    figure = Figure(figsize=(9.0, 5.6 if record else 2.9), dpi=DPI, layout="constrained")
    panels = figure.subplots(2 if record else 1, 1, squeeze=False)[:, 0]
    _stack(panels[0], in_place, {"answered": BLUE_INK})
    lost = f"Replaced in place: {len(in_place.failed):,} of {len(in_place.seen):,} requests fail"
    _entitle(panels[0], lost)
    if record:
        _draw_acts(panels[1], record)
    panels[-1].set_xlabel("seconds")
    return figure


def _draw_acts(axes: Axes, record: Record) -> None:
    _stack(axes, record.traffic, {BLUE: BLUE_INK, GREEN: GREEN_INK})
    refused = sum(not result.released for result in record.results)
    title = f"{len(record.results)} releases behind gates, {refused} of them refused: "
    title += f"{len(record.traffic.failed) or 'none'} of {len(record.traffic.seen):,} requests fail"
    _entitle(axes, title)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top * 1.25)
    for number, result in enumerate(record.results, 1):
        marks = [note.at - record.traffic.started for note in result.notes]
        axes.text(marks[0], top * 1.22, f" {number} {result.act.name}", fontsize=8, va="top")
        for note, at in zip(result.notes[1:-1], marks[1:-1], strict=True):
            if note.what == FAULT:
                continue
            shut = note is result.decided and not result.released
            axes.axvline(at, color=ORANGE if shut else GREY, linestyle="-" if shut else ":", linewidth=1.4)


def _kind(item: Seen) -> str:
    return item.server or "answered" if item.status == http.client.OK else "failed"


def _stack(axes: Axes, traffic: Traffic, inks: Mapping[str, str]) -> None:
    edges = np.arange(0, max(item.at for item in traffic.seen) + BIN_SECONDS, BIN_SECONDS)
    low = np.zeros(len(edges) - 1)
    for kind, ink in {**inks, "failed": ORANGE}.items():
        times = [item.at for item in traffic.seen if _kind(item) == kind]
        high = low + np.histogram(times, edges)[0] / BIN_SECONDS
        axes.stairs(high, edges, baseline=low, fill=True, color=ink, label=kind)
        low = high
    axes.set_ylabel("requests a second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))


def _entitle(axes: Axes, title: str) -> None:
    axes.set_title(fill(title, 80), loc="left", fontsize=11, fontweight="bold")
