"""What a person is told when something fails: what happened, what to do, and a reference for who can help."""

from collections.abc import Mapping
from dataclasses import dataclass

from mlops_core.frontend.client import ApiError, Kind

WAITING: frozenset[Kind] = frozenset(("down", "slow", "not ready", "busy"))  # what passes by itself


@dataclass(frozen=True)
class Notice:
    """A sentence, an advice, and whether the page goes on by itself."""

    title: str
    advice: str
    reference: str = ""
    waits: bool = False


WORDS: Mapping[Kind, tuple[str, str]] = {
    "down": (
        "The prediction service cannot be reached.",
        "Nothing is lost. This page tries again every two seconds and goes on by itself.",
    ),
    "slow": (
        "The prediction service is taking too long to answer.",
        "Nothing is lost. This page tries again every two seconds and goes on by itself.",
    ),
    "not ready": (
        "The prediction service is not ready yet.",
        "It may be starting, or busy. This page goes on by itself as soon as it is.",
    ),
    "signed out": ("Your session has ended.", "Sign in again; what you have entered is still there."),
    "refused": ("Name or password is not right.", "Check both and try again."),
    "forbidden": (
        "Your account may not ask for predictions.",
        "Ask an administrator to give it the scope 'predict'.",
    ),
    "missing": ("The service does not know what this page asks for.", "Page and service may be of different versions."),
    "invalid": ("The service could not use what was entered.", "Correct the marked fields."),
    "busy": ("There were too many requests just now.", "Wait a moment; then this page goes on by itself."),
    "broken": ("Something went wrong in the prediction service.", "Try again. If it stays so, pass on the reference."),
}


def notice_of(error: ApiError) -> Notice:
    """Never shows a traceback or an internal detail; what the API says of a wrong entry is meant for people."""
    title, advice = WORDS[error.kind]
    if error.kind == "invalid" and error.detail:
        title = error.detail
    if error.kind == "busy" and error.wait_seconds:
        advice = f"Wait {error.wait_seconds:.0f} seconds, then try again."
    return Notice(title, advice, error.reference, error.kind in WAITING)


def notice_of_crash(reference: str) -> Notice:
    """For a fault of the page itself; the log holds the rest under the same reference."""
    return Notice(
        "Something went wrong on this page.", "Load it again. If it stays so, pass on the reference.", reference
    )
