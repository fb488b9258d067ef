"""What the experiment chooses: `params.yaml`, typed, frozen, one section per stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops_core.errors import RequestError, did_you_mean
from mlops_core.paths import find_root

Family = Literal["logistic", "boosting"]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class ParamsError(RequestError):
    """A choice that does not exist, or has the wrong type."""

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"Parameter '{name}': {problem}")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class IngestParams(Section):
    max_quarantined: Annotated[float, Field(ge=0, le=1)]


class PreprocessParams(Section):
    test_months: Annotated[int, Field(ge=0)]
    test_share: Share
    calibrate_every: Annotated[int, Field(ge=2)]
    audit_auc: Annotated[float, Field(gt=0.5, le=1)]


class VersionParams(Section):
    changed_rows: Count


class TrackParams(Section):
    experiment: str


class TuneParams(Section):
    trials: Count
    seconds: Count
    workers: Count
    folds: Annotated[int, Field(ge=2)]
    rows: Annotated[int, Field(ge=100)]
    families: Annotated[list[Family], Field(min_length=1)]


class TrainParams(Section):
    coverage: Share
    miss_cost: Annotated[float, Field(gt=0)]
    bins: Annotated[int, Field(ge=2)]
    bootstrap: Annotated[int, Field(ge=20)]
    parity_tolerance: Annotated[float, Field(gt=0)]
    background_rows: Count


class ServeParams(Section):
    rows: Annotated[int, Field(ge=1, le=1000)]  # what the API takes as outcomes at a time
    swaps: Count
    requests: Annotated[int, Field(ge=10)]


class PackageParams(Section):
    build: bool


class DeployParams(Section):
    rehearse: bool
    callers: Annotated[int, Field(ge=1, le=64)]
    answers: Count
    errors: Annotated[float, Field(ge=0, lt=1)]
    ms: Annotated[float, Field(gt=0)]


class FrontendParams(Section):
    changes: Annotated[int, Field(ge=10)]
    pictures: bool


class Params(Section):
    """Everything a run depends on besides code and data; logged to MLflow as it stands."""

    dataset: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    seed: Annotated[int, Field(ge=0)]
    ingest: IngestParams
    preprocess: PreprocessParams
    version: VersionParams
    track: TrackParams
    tune: TuneParams
    train: TrainParams
    serve: ServeParams
    package: PackageParams
    deploy: DeployParams
    frontend: FrontendParams

    @property
    def experiment(self) -> str:
        """The MLflow experiment's name."""
        return self.track.experiment or self.dataset

    def flat(self) -> dict[str, Any]:
        """`{"tune.trials": 30, …}`."""
        return dict(_flatten(self.model_dump()))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        pairs += _flatten(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return pairs


def known_names() -> list[str]:
    """Every parameter's dotted name, from the types alone."""
    names = []
    for key, field in Params.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            names += [f"{key}.{inner}" for inner in field.annotation.model_fields]
        else:
            names.append(key)
    return names


def read_params(path: Path) -> dict[str, Any]:
    """The file as a plain tree, unchecked.

    Raises ParamsError when it is missing, is not YAML or holds no sections.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(path.name, "the file is missing; restore it with: git checkout params.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else " ".join(str(error).split())
        raise ParamsError(path.name, f"the file is not valid YAML ({where}); mend it there") from None
    if not isinstance(tree, dict):
        raise ParamsError(path.name, "the file holds no parameters; restore it with: git checkout params.yaml")
    return tree


def check_params(tree: Mapping[str, Any]) -> Params:
    """Raises ParamsError for the first thing that is wrong, by its dotted name."""
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ParamsError(name, f"does not exist. {did_you_mean(name, known_names())}") from None
        if first["type"] == "missing":
            raise ParamsError(name, "is missing from params.yaml.") from None
        if first["type"] == "string_pattern_mismatch":
            words = "lower case letters, digits and underscores"
            raise ParamsError(name, f"takes {words}, but {first['input']!r} was given.") from None
        raise ParamsError(name, f"{first['msg']}, but {first['input']!r} was given.") from None


def override(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `tree` with dotted names replaced. Raises ParamsError for a name that is not known."""
    names = known_names()
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in tree.items()}
    for name, value in changes.items():
        if name not in names:
            raise ParamsError(name, f"does not exist. {did_you_mean(name, names)}")
        section, _, key = name.rpartition(".")
        if section:
            inner = result.get(section)
            result[section] = {**(inner if isinstance(inner, Mapping) else {}), key: value}
        else:
            result[key] = value
    return result


def parse_assignment(text: str) -> tuple[str, Any]:
    """`"tune.trials=5"` as `("tune.trials", 5)`; the value is read as YAML."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ParamsError(text, "has no value; write it as name=value, for example tune.trials=5")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ParamsError(name, f"{value!r} is not a value; write it as YAML would.") from None


def load_params(changes: Mapping[str, Any] | None = None, root: Path | None = None) -> Params:
    """`params.yaml`, checked.

    `changes` holds dotted names; an empty text or a zero leaves what the file says, so that a
    notebook's parameters cell can offer a parameter without choosing it.
    """
    tree = read_params((root or find_root()) / "params.yaml")
    return check_params(override(tree, {name: value for name, value in (changes or {}).items() if value}))
