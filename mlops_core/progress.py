"""One line of progress at a time, where the person watches: the terminal of a run, or the notebook's cell.

A stage's notebook must come out the same on every run, so what tells of elapsed time may not land in it.
`mlops run` names a file in `MLOPS_PROGRESS` and shows what is written there; without it, lines are printed.
"""

import os
from pathlib import Path

VARIABLE = "MLOPS_PROGRESS"


def report_progress(line: str) -> None:
    """Shows `line` to whoever runs this."""
    target = os.environ.get(VARIABLE)
    if target:
        with Path(target).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    else:
        print(line, flush=True)
