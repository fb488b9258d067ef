"""What a service needs of the machine: an end with whoever started it, and a port."""

import ctypes
import signal
import socket
import sys

from mlops_core.errors import RequestError

PR_SET_PDEATHSIG = 1  # prctl(2)
BACKLOG = 512


class AddressInUseError(RequestError):
    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host, self.port = host, port
        super().__init__(f"Cannot listen on {host}:{port} ({reason}). Choose another port with --port.")


def end_with_parent() -> None:
    """Asks the kernel to end this process when its parent does, so that a killed run leaves nobody behind.

    Linux only; elsewhere the caller has to end its children itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket. Raises AddressInUseError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise AddressInUseError(host, port, error.strerror or type(error).__name__) from None


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with open_socket("127.0.0.1", 0) as listener:
        port: int = listener.getsockname()[1]
        return port
