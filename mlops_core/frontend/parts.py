"""Three widgets that ipywidgets lacks: a chart that is drawn in place, a file given, a file taken."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from mlops_core.frontend.charts import Chart

SCRIPTS = Path(__file__).with_name("js")
MAX_UPLOAD = 10_000_000


class Plot(anywidget.AnyWidget):
    """Plotly's JSON, drawn by Plotly in the browser: the kernel need not import it, and an update is one message."""

    _esm = (SCRIPTS / "plot.js").read_text(encoding="utf-8")
    chart = traitlets.Dict().tag(sync=True)

    def show(self, chart: Chart | None) -> None:
        """Draws a chart, or hides the place where it would be."""
        self.chart = asdict(chart) if chart else {}


class Download(anywidget.AnyWidget):
    """A button that saves `data`; hidden as long as there is none."""

    _esm = (SCRIPTS / "download.js").read_text(encoding="utf-8")
    label = traitlets.Unicode("Download").tag(sync=True)
    filename = traitlets.Unicode("").tag(sync=True)
    media = traitlets.Unicode("text/csv").tag(sync=True)
    data = traitlets.Bytes(b"").tag(sync=True)


class Upload(anywidget.AnyWidget):
    """One file at a time; `taken` gets its name and content."""

    _esm = (SCRIPTS / "upload.js").read_text(encoding="utf-8")
    label = traitlets.Unicode("Choose a file").tag(sync=True)
    accept = traitlets.Unicode("").tag(sync=True)
    max_bytes = traitlets.Int(MAX_UPLOAD).tag(sync=True)

    def observe_file(self, taken: Callable[[str, bytes], None]) -> None:
        def receive(_: Any, content: dict[str, Any], buffers: list[memoryview]) -> None:
            taken(str(content.get("name", "")), bytes(buffers[0]))

        self.on_msg(receive)
