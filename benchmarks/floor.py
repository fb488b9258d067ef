"""The floor of a series: the code of all notebooks in one plain process, without papermill, kernels or DVC."""

import ast
import asyncio
import json
import os
import sys
import time
from pathlib import Path

from mlops_core.pipeline.notebooks import NOTEBOOKS, source_of
from mlops_core.progress import VARIABLE

# The page's notebook checks that nothing that computes is in its process, where here all notebooks share one.
STAGES = [stage for stage in NOTEBOOKS if stage != "frontend"]


def run_all(root: Path) -> dict[str, float]:
    """Seconds by stage. Cells run in a fresh namespace each; what they would show is computed and dropped."""
    os.chdir(root)
    os.environ[VARIABLE] = os.devnull
    times = {}
    for stage in STAGES:
        cells = json.loads(source_of(root, stage).read_text(encoding="utf-8"))["cells"]
        code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        started = time.perf_counter()
        awaited = eval(compile(code, stage, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), {"__name__": stage})
        if awaited is not None:
            asyncio.run(awaited)
        times[stage] = time.perf_counter() - started
    return times


if __name__ == "__main__":
    real, sys.stdout = sys.stdout, Path(os.devnull).open("w")  # noqa: SIM115  lives as long as the process
    result = run_all(Path.cwd())
    print(json.dumps(result), file=real)
