"""One tuning process: `… -m mlops_core.tune.worker TRIALS DEADLINE SEED STUDY`, its parameters on standard input."""

import os
import sys

import optuna

from mlops_core.params import Params
from mlops_core.paths import find_paths
from mlops_core.processes import end_with_parent
from mlops_core.tune.workers import Search, run_worker


def main() -> None:
    """Runs until its share of trials or its time is used up."""
    end_with_parent()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials, deadline, seed, study = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    params = Params.model_validate_json(sys.stdin.read())
    search = Search(study, os.environ["MLOPS_STUDY_URL"], params, find_paths(params.dataset))
    run_worker(search, trials, deadline, seed)


if __name__ == "__main__":
    main()
