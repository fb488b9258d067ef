"""What the API says of the served model, typed, and how a person reads its values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

Row = dict[str, Any]
NUMERIC = ("number", "integer")


@dataclass(frozen=True)
class Column:
    """One input of the model: enough to make a field for it."""

    name: str
    type: str
    required: bool = True
    categories: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    seen_low: float | None = None
    seen_high: float | None = None
    unseen: str = "flag"
    label: str = ""
    unit: str = ""
    help: str = ""
    example: Any = None

    @property
    def title(self) -> str:
        """Its label with the unit."""
        label = self.label or self.name
        return f"{label} ({self.unit})" if self.unit else label

    @property
    def holds_years(self) -> bool:
        """Whole numbers of which training saw none outside of what calendars say: 1,974 would be misread."""
        low, high = self.seen_low, self.seen_high
        return self.type == "integer" and low is not None and high is not None and 1000 <= low <= high <= 2200

    def show_category(self, category: str) -> str:
        """`EWR · Newark Liberty Intl`."""
        readable = self.names.get(category, "")
        return f"{category} · {readable}" if readable and readable != category else category

    def show(self, value: Any) -> str:
        """A value as a person reads it, without the unit."""
        if value is None:
            return "not known"
        if self.type == "boolean":
            return "yes" if value else "no"
        if self.type in NUMERIC:
            return f"{value:.0f}" if self.holds_years else number_text(value)
        if self.type == "datetime":
            return str(value).replace("T", " ")
        return self.show_category(str(value))


@dataclass(frozen=True)
class Target:
    """What is predicted."""

    name: str
    label: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Model:
    """The served version."""

    name: str
    version: int
    task: str
    columns: list[Column]
    classes: list[str]
    title: str
    question: str
    target: Target
    coverage: float
    threshold: float | None
    metrics: dict[str, float]
    importance: dict[str, float]
    example: Row
    registered_at: str

    @property
    def by_importance(self) -> list[Column]:
        """All columns, the one that the model looks at most first."""
        return sorted(self.columns, key=lambda column: -self.importance.get(column.name, 0.0))

    def label_of(self, name: str) -> str:
        """A column's label."""
        return next((column.label or name for column in self.columns if column.name == name), name)

    def age(self, now: datetime | None = None) -> str:
        """`registered 3 days ago`, or nothing where the registry did not say when."""
        try:
            then = datetime.fromisoformat(self.registered_at)
        except ValueError:
            return ""
        days = ((now or datetime.now(UTC)) - then).days
        return f"registered {'today' if days < 1 else 'yesterday' if days == 1 else f'{days} days ago'}"


def read_model(tree: Mapping[str, Any]) -> Model:
    """The answer of `GET /v1/model`; what this page does not know is passed over."""
    known = {item.name for item in fields(Column)}
    columns = [Column(**{key: value for key, value in item.items() if key in known}) for item in tree["columns"]]
    target = tree.get("target") or {}
    metrics = {name: value for name, value in (tree.get("metrics") or {}).items() if value is not None}
    return Model(
        tree["name"],
        tree["version"],
        tree["task"],
        columns,
        tree["classes"],
        tree.get("title") or tree["name"],
        tree.get("question") or "",
        Target(target.get("name", ""), target.get("label", ""), target.get("unit", "")),
        tree["coverage"],
        tree["threshold"],
        metrics,
        tree["importance"],
        tree["example"],
        tree.get("registered_at") or "",
    )


def number_text(value: float) -> str:
    """At most four significant digits, thousands grouped, no exponent for what people meet."""
    if not math.isfinite(value):
        return str(value)
    value += 0.0  # no "-0"
    if value == 0 or 1e-4 <= abs(value) < 1e12:
        digits = 0 if abs(value) >= 1000 else 3 - math.floor(math.log10(abs(value))) if value else 0
        text = f"{value:,.{max(0, digits)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.3g}"


def score_text(value: float) -> str:
    """A score with three decimals, as scores are compared; a large one, such as an error in dollars, as a number."""
    return f"{value:.3f}" if abs(value) < 10 else number_text(value)


def percent(share: float) -> str:
    """`23 %`; never 0 or 100 for what is not certain."""
    if 0 < share < 0.01:
        return "less than 1 %"
    if 0.99 < share < 1:
        return "more than 99 %"
    return f"{share:.0%}".replace("%", " %")
