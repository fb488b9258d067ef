"""The root of every error that this package raises on purpose.

MLOpsError                 something failed; exit code 1
└── RequestError           what was asked for is wrong; exit code 2

Each subclass lives beside the code that raises it, keeps its facts as attributes and writes
one sentence that names the thing and the fix.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

SHOWN = 12


class MLOpsError(Exception):
    """Base class; `exit_code` is what the command line ends with."""

    exit_code = 1


class RequestError(MLOpsError):
    """The caller can mend this by asking differently."""

    exit_code = 2


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that suggests the nearest known name, or lists what there is."""
    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else f"Known: {list_names(sorted(names))}."


def list_names(names: Sequence[str]) -> str:
    """The names as part of one line: of many the first ones, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:SHOWN])} and {more} more"
