"""How jupyter_client gets the kernel of a stage: a fork where one is to be had."""

import os
import sys
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from mlops_core.forkserver import LIBRARIES, ask_for_fork

NAME = "mlops-forked"  # among the entry points of this package
LAUNCHER = ["-m", "ipykernel_launcher"]
KERNEL_COLUMNS = 20  # pandas shows as many where a kernel imports it, and as many as fit where none does
CALL = "mlops_core.pipeline.provisioner:run_kernel"


class ForkedProvisioner(LocalProvisioner):
    """Starts this Python's ipykernel as a fork, and any kernel as usual where there is none to be had."""

    process: Any = None
    level = LIBRARIES

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        if cmd[:3] == [sys.executable, *LAUNCHER]:
            fork = ask_for_fork(CALL, cmd[2:], kwargs["env"], cwd=kwargs.get("cwd"), level=self.level)
            if fork:
                self.process, self.pid, self.pgid = fork, fork.pid, fork.pid
                return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)


def run_kernel() -> None:
    """What `python -m ipykernel_launcher` does, with this process's own parent."""
    from ipykernel.kernelapp import IPKernelApp

    if pandas := sys.modules.get("pandas"):
        pandas.set_option("display.max_columns", KERNEL_COLUMNS)
    IPKernelApp.launch_instance(parent_handle=os.getppid())
