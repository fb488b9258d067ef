"""Notebook files: clean sources, stable executed copies, HTML that opens without a network."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.errors import RequestError
from mlops_core.reports import replace_file

if TYPE_CHECKING:
    from nbformat import NotebookNode

# What a source keeps; everything else differs from machine to machine.
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

LIVE_WIDGET = "application/vnd.jupyter.widget-view+json"  # shows nothing once its kernel is gone, but a name by chance

PACKAGES = re.compile(r"(?:/[^\s/:]+)+/site-packages/")

# In this order: tuning (6) comes before the final training (5).
NOTEBOOKS = {
    "ingest": "01_ingest",
    "preprocess": "02_preprocess",
    "version": "03_version",
    "track": "04_track",
    "tune": "06_tune",
    "train": "05_train",
    "serve": "07_serve",
    "package": "08_package",
    "deploy": "09_deploy",
    "frontend": "10_frontend",
}


class NotebookFileError(RequestError):
    """A source notebook that is missing or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        name = f"{path.parent.name}/{path.name}"
        super().__init__(f"{name} is missing or is no notebook; restore it with: git checkout {name}")


def source_of(root: Path, stage: str) -> Path:
    return root / "notebooks" / f"{NOTEBOOKS[stage]}.ipynb"


def executed_of(root: Path, stage: str) -> Path:
    return root / "reports" / "notebooks" / f"{NOTEBOOKS[stage]}.ipynb"


def failed_of(root: Path, stage: str) -> Path:
    return executed_of(root, stage).with_suffix(".failed.ipynb")


def to_bytes(notebook: NotebookNode | dict[str, Any]) -> bytes:
    return (json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def clean_source(model: dict[str, Any]) -> dict[str, Any]:
    """A notebook as it is committed: no outputs, no counters, no metadata of the editor; tags stay."""
    cells = []
    for cell in model["cells"]:
        kept = {key: value for key, value in cell.items() if key in ("id", "cell_type", "source", "attachments")}
        tags = cell.get("metadata", {}).get("tags")
        kept["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "code":
            kept |= {"outputs": [], "execution_count": None}
        cells.append(kept)
    return {"cells": cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}


def strip_on_save(model: dict[str, Any], **_: Any) -> None:
    """Jupyter's pre-save hook: what reaches the disk is a source, so saving outputs does not make a stage stale."""
    if model.get("type") == "notebook" and model.get("content"):
        import nbformat

        model["content"] = nbformat.from_dict(clean_source(model["content"]))


def cleaned(path: Path) -> bytes:
    """What a source file would hold without outputs. Raises NotebookFileError."""
    try:
        return to_bytes(with_joined_lines(clean_source(json.loads(path.read_bytes()))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise NotebookFileError(path) from None


def strip_file(path: Path) -> bool:
    """Cleans one source in place and says whether it had to; for editors that know no hook.

    Raises NotebookFileError.
    """
    clean = cleaned(path)
    if clean == path.read_bytes():
        return False
    replace_file(path, clean)
    return True


def with_joined_lines(model: dict[str, Any]) -> dict[str, Any]:
    """The same notebook with every cell's text as the list of lines that Jupyter writes."""
    cells = []
    for cell in model["cells"]:
        source = cell["source"]
        text = source if isinstance(source, str) else "".join(source)
        cells.append({**cell, "source": text.splitlines(keepends=True)})
    return {**model, "cells": cells}


def without_folders(text: str, root: Path) -> str:
    """What a warning says, without where this machine keeps the checkout and its packages."""
    return PACKAGES.sub("", text.replace(f"{root}{os.sep}", ""))


def stable_copy(notebook: NotebookNode, root: Path) -> NotebookNode:
    """An executed notebook without clocks and paths: the same results give the same bytes."""
    import nbformat

    copy = nbformat.from_dict(json.loads(json.dumps(notebook)))
    copy.metadata = nbformat.from_dict(KERNEL)
    for cell in copy.cells:
        cell.metadata = nbformat.from_dict({key: value for key, value in cell.metadata.items() if key == "tags"})
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(LIVE_WIDGET, None)
            if output.get("name") == "stderr":
                output.text = without_folders(output.text, root)
    return copy


def to_html(notebook: NotebookNode, title: str) -> bytes:
    """A page that needs no network: no formula engine, no loader, pictures inside."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="lab", mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="", embed_images=True
    )
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    return str(page).encode()
