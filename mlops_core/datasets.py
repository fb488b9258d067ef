"""What a table is: `data/datasets/<name>.yaml`, typed. Contract, features, schema and card follow from it."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlops_core.errors import RequestError, did_you_mean
from mlops_core.paths import dataset_file

Kind = Literal["number", "integer", "category", "boolean", "datetime", "text"]
Role = Literal["feature", "target", "time", "id", "group", "ignore"]
Task = Literal["binary", "multiclass", "regression"]
Derived = Literal["minute_of_day", "day_of_week", "month"]

MINUTES = {"m": 1, "h": 60, "d": 1440}


class DatasetError(RequestError):
    """A dataset file that is missing or wrong."""

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"Dataset '{name}': {problem}")


class LeakError(RequestError):
    """A feature that is not known yet when the question is asked."""

    def __init__(self, column: str, known_at: str, predict_at: str) -> None:
        self.column, self.known_at, self.predict_at = column, known_at, predict_at
        super().__init__(
            f"Column '{column}' is known at {known_at}, after the prediction at {predict_at}: "
            f"a model that learns from it cannot be used. Give it the role 'ignore'."
        )


def minutes_from_event(moment: str) -> float:
    """`"-2h"` as -120 minutes from the event; `"always"` and `"after"` lie infinitely far before and after."""
    if moment in ("always", "after"):
        return -math.inf if moment == "always" else math.inf
    match = re.fullmatch(r"([+-]?)(\d+)([mhd])", moment)
    if not match:
        raise ValueError(f"{moment!r} is no moment: write always, after, or a distance such as -2h, 30m, -7d")
    return int(match[1] + match[2]) * MINUTES[match[3]]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldSpec(Model):
    """What one column of a table may hold."""

    type: Kind
    range: tuple[float, float] | None = None
    categories: list[str] | None = None
    missing: bool = False
    unit: str = ""
    formats: list[str] = []  # of dates that are not written as ISO 8601, as `strptime` spells them

    @model_validator(mode="after")
    def _formats_are_of_dates(self) -> "FieldSpec":
        if self.formats and self.type != "datetime":
            raise ValueError("formats are for a datetime")
        return self

    @model_validator(mode="after")
    def _range_is_of_numbers(self) -> "FieldSpec":
        if self.range and (self.type not in ("number", "integer") or self.range[0] > self.range[1]):
            raise ValueError("a range goes from low to high and belongs to a number or an integer")
        return self


class ColumnSpec(FieldSpec):
    """A column of the table that is learned from: what it holds, what it is for, when it is known."""

    role: Role = "feature"
    known_at: str = "always"
    derive: list[Derived] = []
    unseen: Literal["flag", "refuse"] = "flag"
    trusted: bool = False  # somebody made sure that it is known in time, however well it predicts alone
    label: str = ""
    help: str = ""
    names: str = ""

    @field_validator("known_at")
    @classmethod
    def _is_a_moment(cls, value: str) -> str:
        minutes_from_event(value)
        return value

    @model_validator(mode="after")
    def _can_be_encoded(self) -> "ColumnSpec":
        if self.derive and self.type != "datetime":
            raise ValueError("derive is for a datetime")
        if self.names and self.type != "category":
            raise ValueError("names is for a category")
        if self.role == "feature" and (self.type == "text" or (self.type == "datetime" and not self.derive)):
            raise ValueError(f"a {self.type} is no feature; derive parts of a datetime, make a short text a category")
        return self


class TableSpec(Model):
    """One source file and its contract."""

    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    key: list[str] = []
    columns: dict[str, FieldSpec]

    @model_validator(mode="after")
    def _key_is_of_columns(self) -> "TableSpec":
        if missing := [name for name in self.key if name not in self.columns]:
            raise ValueError(f"the key names '{missing[0]}', which is no column of the table")
        return self


def _names_problem(name: str, tables: Mapping[str, TableSpec]) -> str:
    """What is wrong with a table that readable names are to come from, or nothing."""
    table = tables.get(name)
    if table is None:
        return f"the source has no table '{name}'. {did_you_mean(name, tables)}"
    if len(table.key) != 1:
        return f"the table '{name}' must have exactly one key column, which holds the category; it has {len(table.key)}"
    return "" if "name" in table.columns else f"the table '{name}' has no column 'name', which holds the readable name"


class SourceSpec(Model):
    """Where the tables come from. A further kind is a new value of `kind` and one reader in `ingest`."""

    kind: Literal["folder", "csv", "parquet"]
    path: str
    sha256: str = ""
    missing_marks: list[str] = [""]
    tables: dict[str, TableSpec] = {}

    @field_validator("path")
    @classmethod
    def _lies_in_the_project(cls, value: str) -> str:
        if Path(value).is_absolute() or ".." in Path(value).parts:
            raise ValueError(f"{value!r} must be a path inside the project, such as data/source/table.csv")
        return value


class DatasetSpec(Model):
    name: str
    title: str
    question: str
    origin: str
    task: Task
    target: str
    predict_at: str = "0h"
    join: str = ""
    limits: list[str] = []
    source: SourceSpec
    columns: dict[str, ColumnSpec]

    @model_validator(mode="after")
    def _columns_fit_together(self) -> "DatasetSpec":
        roles = [column.role for column in self.columns.values()]
        if self.with_role("target") != [self.target]:
            raise ValueError(f"the target '{self.target}' must be the one column with the role 'target'")
        if any(roles.count(role) > 1 for role in ("time", "id", "group")):
            raise ValueError("at most one column each may have the role 'time', the role 'id' and the role 'group'")
        if "feature" not in roles:
            raise ValueError("no column has the role 'feature'")
        if self.source.kind == "folder" and not self.source.tables:
            raise ValueError("a source of the kind 'folder' needs 'tables'")
        if self.source.kind != "folder" and not re.fullmatch("[0-9a-f]{64}", self.source.sha256):
            raise ValueError(f"a source of the kind '{self.source.kind}' needs the 'sha256' of its file")
        minutes_from_event(self.predict_at)
        return self

    @model_validator(mode="after")
    def _names_can_be_found(self) -> "DatasetSpec":
        for name, column in self.columns.items():
            if column.names and (problem := _names_problem(column.names, self.tables())):
                raise ValueError(f"columns.{name}.names: {problem}")
        return self

    def with_role(self, role: Role) -> list[str]:
        return [name for name, column in self.columns.items() if column.role == role]

    @property
    def time(self) -> str | None:
        return next(iter(self.with_role("time")), None)

    @property
    def id(self) -> str | None:
        return next(iter(self.with_role("id")), None)

    @property
    def group(self) -> str | None:
        return next(iter(self.with_role("group")), None)

    @property
    def too_late(self) -> list[str]:
        """The ignored columns that are known only after the prediction; others are left out for other reasons."""
        horizon = minutes_from_event(self.predict_at)
        return [name for name in self.with_role("ignore") if minutes_from_event(self.columns[name].known_at) > horizon]

    @property
    def features(self) -> list[str]:
        """Every column that a model sees: the features, and the time column where parts are derived from it."""
        return [name for name, column in self.columns.items() if column.role == "feature" or column.derive]

    @property
    def classes(self) -> list[str]:
        """The labels in order; in a binary task the last one is the event. Empty for regression."""
        return [] if self.task == "regression" else list(self.columns[self.target].categories or [])

    def tables(self) -> dict[str, TableSpec]:
        """The source's tables; a single file is a source of one table whose contract is `columns`."""
        if self.source.kind == "folder":
            return self.source.tables
        plain = {
            name: FieldSpec(**column.model_dump(include=set(FieldSpec.model_fields)))
            for name, column in self.columns.items()
        }
        file = Path(self.source.path).name
        return {self.name: TableSpec(file=file, sha256=self.source.sha256, columns=plain)}

    def folder(self) -> str:
        path = Path(self.source.path)
        return str(path if self.source.kind == "folder" else path.parent)


def check_known_in_time(spec: DatasetSpec) -> None:
    """Raises LeakError for the first feature that is known only after the prediction."""
    horizon = minutes_from_event(spec.predict_at)
    for name in spec.features:
        known_at = spec.columns[name].known_at
        if minutes_from_event(known_at) > horizon:
            raise LeakError(name, known_at, spec.predict_at)


def load_dataset(name: str, root: Path) -> DatasetSpec:
    """Raises DatasetError for a file that is missing or wrong, LeakError for a feature from the future."""
    path = dataset_file(root, name)
    if not path.is_file():
        known = [file.stem for file in path.parent.glob("*.yaml")]
        raise DatasetError(name, f"there is no data/datasets/{name}.yaml. {did_you_mean(name, known)}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DatasetError(name, f"data/datasets/{name}.yaml is not valid YAML: it is not UTF-8") from None
    return build_dataset(name, parse_tree(name, text))


def parse_tree(name: str, text: str) -> dict[str, Any]:
    """What a dataset file holds, unchecked. Raises DatasetError when that is no YAML, or no mapping."""
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "is not YAML"
        where = f"line {mark.line + 1}: " if mark else ""
        raise DatasetError(name, f"data/datasets/{name}.yaml is not valid YAML: {where}{problem}") from None
    if not isinstance(tree, dict):
        raise DatasetError(name, f"data/datasets/{name}.yaml holds no dataset")
    return tree


def _keys_beside(place: tuple[int | str, ...]) -> list[str]:
    """The keys that the file may have where it has this one."""
    match place[:-1]:
        case ():
            model: type[Model] = DatasetSpec
        case ("source",):
            model = SourceSpec
        case ("source", "tables", _):
            model = TableSpec
        case ("source", "tables", _, "columns", _):
            model = FieldSpec
        case _:
            model = ColumnSpec
    return list(model.model_fields)


def _explain(error: ValidationError, file: str) -> str:
    """The first thing that is wrong; an unknown key before others, for it is often the one that seems to be missing."""
    problems = error.errors(include_url=False)
    first = next((item for item in problems if item["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        near = did_you_mean(str(first["loc"][-1]), _keys_beside(first["loc"]))
        return f"{file} has the unknown key '{where}'. {near}"
    if first["type"] == "missing":
        return f"{file} lacks the key '{where}'"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def build_dataset(name: str, tree: Any) -> DatasetSpec:
    """A checked DatasetSpec from a parsed tree; raises as `load_dataset` does."""
    try:
        spec = DatasetSpec.model_validate(tree)
    except ValidationError as error:
        raise DatasetError(name, _explain(error, f"data/datasets/{name}.yaml")) from None
    if spec.name != name:
        raise DatasetError(name, f"the file says name: {spec.name}; name and file name must agree")
    check_known_in_time(spec)
    return spec
