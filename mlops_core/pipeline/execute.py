"""Runs one notebook as a stage: papermill, a quick kernel, a line for every named cell, all or nothing on disk."""

import builtins
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.factory import KernelProvisionerFactory
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook
from traitlets.config import Config

from mlops_core.errors import MLOpsError
from mlops_core.forkserver import LIBRARIES, TOOLS
from mlops_core.params import load_params
from mlops_core.paths import state_dir
from mlops_core.pipeline import provisioner
from mlops_core.pipeline.notebooks import (
    NOTEBOOKS,
    executed_of,
    failed_of,
    source_of,
    stable_copy,
    to_bytes,
    to_html,
)
from mlops_core.pipeline.verify import is_restorable
from mlops_core.progress import VARIABLE
from mlops_core.reports import replace_file

ENGINE = "mlops"
KERNEL_NAME = "python3"
START_SECONDS = 180
BARE = "frontend"  # its kernel shows that a page imports no library
POLL_SECONDS = 0.5


class StageError(MLOpsError):
    """A cell failed; the notebook as far as it came is kept. `back`: there are good outputs to go back to."""

    def __init__(self, stage: str, cell: str, cause: str, kept: str, back: bool) -> None:
        self.stage, self.cell, self.cause, self.kept, self.back = stage, cell, cause, kept, back
        lines = [f"Stage '{stage}' failed in the cell '{cell}': {cause}", f"  read   {kept}", "  again  mlops run"]
        # Without --force DVC stops at what the stage had written before it failed.
        lines += ["  back   dvc checkout --force   (the last good outputs)"] * back
        super().__init__("\n".join(lines))


class Reporter:
    """Prints what a stage is doing: one line for each named cell, and what the cell itself reports."""

    def __init__(self, stage: str, progress: Path) -> None:
        self.stage, self.progress = stage, progress
        self.started = time.monotonic()
        self.cell = "start"
        self.notebook: Any = None
        self._seen = 0
        self._done = threading.Event()
        progress.parent.mkdir(parents=True, exist_ok=True)
        progress.write_bytes(b"")
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def line(self, text: str) -> None:
        elapsed = time.monotonic() - self.started
        print(f"  {NOTEBOOKS[self.stage][:2]} {self.stage:<10} {elapsed:6.1f} s  {text}", flush=True)

    def enter(self, name: str) -> None:
        if name != self.cell:
            self.cell = name
            self.line(name)

    def _relay(self) -> None:
        with self.progress.open("rb") as file:
            file.seek(self._seen)
            for raw in file.readlines():
                self._seen += len(raw)
                self.line("  " + raw.decode(errors="replace").rstrip())

    def _follow(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self._relay()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Relays progress from the kernel while the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._done.set()
            self._thread.join()
            self._relay()
            self.progress.unlink(missing_ok=True)


class StageEngine(NBClientEngine):
    """papermill's own engine; tells which cell runs, and ends the kernel at once instead of within a second."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, reporter: Reporter | None = None, **options: Any
    ) -> Any:
        if reporter:
            reporter.notebook = nb_man.nb
            names = cell_names(nb_man.nb.cells)
            start = nb_man.cell_start

            def cell_start(cell: Any, cell_index: int | None = None, **more: Any) -> Any:
                if cell_index is not None and cell.cell_type == "code":
                    reporter.enter(names[cell_index])
                return start(cell, cell_index, **more)

            nb_man.cell_start = cell_start
        # "auto" encrypts where it can and keeps ipykernel from announcing on every start that it does not.
        config = Config({"KernelManager": {"transport_encryption": "auto"}})
        return super().execute_managed_notebook(
            nb_man, kernel_name, config=config, shutdown_kernel="immediate", **options
        )


def cell_names(cells: list[Any]) -> list[str]:
    """What each cell is called: the heading above it."""
    names, current = [], "start"
    for cell in cells:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#{2,} (.+)$", cell.source, flags=re.MULTILINE)
            current = headings[-1].strip() if headings else current
        names.append(current)
    return names


def _cause(error: Exception, timeout: int | None) -> str:
    if isinstance(error, DeadKernelError):
        return "its kernel was killed; was there enough memory?"
    if isinstance(error, CellTimeoutError):
        return f"it took longer than {timeout} s"
    assert isinstance(error, PapermillExecutionError)
    # Our own errors say everything in their sentence; others need their type.
    plain = str(error.evalue).strip().splitlines() or [""]
    own = (
        error.ename.endswith("Error")
        and any("mlops_core" in line for line in error.traceback)
        and not hasattr(builtins, error.ename)
    )
    return plain[0] if own else f"{error.ename}: {plain[0]}"


def can_go_back(root: Path) -> bool:
    """Whether the dataset of params.yaml has good outputs; a failure is told whatever is wrong with that file."""
    try:
        return is_restorable(root, load_params(root=root).dataset)
    except MLOpsError:
        return False


def run_stage(root: Path, stage: str, timeout: int | None = None) -> None:
    """Executes the stage's notebook in the project's root and writes its copy and its HTML.

    Raises StageError when a cell fails or takes longer than `timeout` seconds; then only `.failed.ipynb` is written.
    """
    papermill_engines.register(ENGINE, StageEngine)
    KernelProvisionerFactory.instance().default_provisioner_name = provisioner.NAME
    provisioner.ForkedProvisioner.level = TOOLS if stage == BARE else LIBRARIES
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # StageError says it in our words
    reporter = Reporter(stage, state_dir(root) / f"progress-{os.getpid()}")
    os.environ[VARIABLE] = str(reporter.progress)
    draft = state_dir(root) / f"{NOTEBOOKS[stage]}.ipynb"
    target, failed = executed_of(root, stage), failed_of(root, stage)
    try:
        with reporter.watching():
            notebook = execute_notebook(
                source_of(root, stage),
                draft,
                engine_name=ENGINE,
                kernel_name=KERNEL_NAME,
                progress_bar=False,
                request_save_on_cell_execute=False,
                cwd=root,
                start_timeout=START_SECONDS,
                execution_timeout=timeout,
                reporter=reporter,
            )
    except (PapermillExecutionError, DeadKernelError, CellTimeoutError) as error:
        # papermill writes what it has when a cell raises, and nothing when the kernel is gone.
        replace_file(failed, draft.read_bytes() if draft.is_file() else to_bytes(reporter.notebook))
        kept = failed.relative_to(root).as_posix()
        raise StageError(stage, reporter.cell, _cause(error, timeout), kept, can_go_back(root)) from None
    finally:
        draft.unlink(missing_ok=True)
    stable = stable_copy(notebook, root)
    replace_file(target.with_suffix(".html"), to_html(stable, NOTEBOOKS[stage]))
    replace_file(target, to_bytes(stable))
    failed.unlink(missing_ok=True)
