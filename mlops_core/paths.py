"""Where every file of a project lives; the only module that spells a path."""

from dataclasses import dataclass
from pathlib import Path

from mlops_core.errors import RequestError


class ProjectNotFoundError(RequestError):
    """Raised outside a checkout."""

    def __init__(self, start: Path) -> None:
        self.start = start
        super().__init__(
            f"No project found in {start} or above it: run this inside a checkout, where dvc.yaml and params.yaml lie."
        )


def find_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` that holds dvc.yaml and params.yaml.

    papermill runs a notebook in the project's root, JupyterLab beside the notebook: both end here.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    raise ProjectNotFoundError(here)


@dataclass(frozen=True)
class Paths:
    """The files of one dataset in one project."""

    root: Path
    dataset: str

    @property
    def raw(self) -> Path:
        return self.root / "data" / "raw" / self.dataset

    @property
    def quarantine(self) -> Path:
        return self.root / "data" / "quarantine"

    @property
    def processed(self) -> Path:
        return self.root / "data" / "processed" / self.dataset

    @property
    def models(self) -> Path:
        return self.root / "data" / "models" / self.dataset

    @property
    def bundle(self) -> Path:
        return self.models / "bundle"

    @property
    def evaluation(self) -> Path:
        """Beside the bundle, which is sealed before it can be evaluated."""
        return self.models / "evaluation.json"

    @property
    def best_params(self) -> Path:
        return self.models / "best_params.json"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    def metrics(self, stage: str) -> Path:
        return self.reports / "metrics" / f"{stage}.json"

    def plots(self, name: str) -> Path:
        return self.reports / "plots" / name

    def figure(self, name: str) -> Path:
        return self.reports / "figures" / f"{name}.png"

    def relative(self, path: Path) -> str:
        """`path` as a reader of a report should see it: without the folders of this machine."""
        return path.relative_to(self.root).as_posix()


def dataset_file(root: Path, name: str) -> Path:
    return root / "data" / "datasets" / f"{name}.yaml"


def state_dir(root: Path) -> Path:
    """What belongs to this checkout on this machine: locks, the tuning database, progress."""
    return root / ".mlops"


def find_paths(dataset: str, start: Path | None = None) -> Paths:
    return Paths(find_root(start), dataset)
