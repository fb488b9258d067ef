"""One tuning process: `… -m mlops_core.tune.worker DEADLINE THREADS STUDY PARAMS`."""

import os
import sys

import optuna
from threadpoolctl import threadpool_limits

from mlops_core.params import Params
from mlops_core.paths import find_paths
from mlops_core.processes import end_with_parent
from mlops_core.tune.workers import Search, run_worker


def main() -> None:
    """Runs until the trials or the time are used up."""
    end_with_parent()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    deadline, threads, study, text = sys.argv[1:]
    params = Params.model_validate_json(text)
    search = Search(study, os.environ["MLOPS_STUDY_URL"], params, find_paths(params.dataset))
    with threadpool_limits(int(threads)):
        run_worker(search, float(deadline))


if __name__ == "__main__":
    main()
