"""Processes that end with whoever started them."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent() -> None:
    """Asks the kernel to end this process when its parent does, so that a killed run leaves nobody behind.

    Linux only; elsewhere the caller has to end its children itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
