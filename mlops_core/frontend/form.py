"""A field for every column of the model: what may be typed, what it means, and what is unusual about it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

import ipywidgets as widgets

from mlops_core.frontend.facts import NUMERIC, Column, Model, Row
from mlops_core.frontend.words import hide

FEW = 12  # so many choices fit into a menu; more are searched by typing
MAIN_FIELDS = 10
NOT_KNOWN = "not known"
LARGEST = 3.4028234663852886e38  # float32's, which the model computes in
YEARS = 1700, 2200  # as the service wants them
WIDE = widgets.Layout(width="auto")


@dataclass(frozen=True)
class Reading:
    """What a field holds: the value for the API, what is wrong with it, or what is unusual about it."""

    value: Any = None
    problem: str = ""
    mark: str = ""


def read_number(column: Column, text: str) -> Reading:
    """`1,5` is no number here, because nobody knows whether it is one and a half or fifteen."""
    text = text.strip().replace("−", "-")
    if not text:
        return Reading(problem="is needed") if column.required else Reading()
    try:
        value = float(text)
    except ValueError:
        return Reading(problem="is not a number; write decimals with a point, as in 1.5")
    if not math.isfinite(value):
        return Reading(problem="is not a number")
    if column.type == "integer" and value != int(value):
        return Reading(problem="must be a whole number")
    low, high = -LARGEST if column.low is None else column.low, LARGEST if column.high is None else column.high
    if not low <= value <= high:
        return Reading(problem=f"must lie between {column.show(low)} and {column.show(high)}")
    return Reading(int(value) if column.type == "integer" else value, mark=_unusual(column, value))


def _unusual(column: Column, value: float) -> str:
    low, high = column.seen_low, column.seen_high
    if low is None or high is None or low <= value <= high:
        return ""
    return f"The model has only seen {column.show(low)} to {column.show(high)}."


def read_category(column: Column, text: str) -> Reading:
    """A code, a code with its readable name, or a readable name alone; another one is unusual or wrong."""
    text = text.strip()
    if not text or text == NOT_KNOWN:
        return Reading(problem="is needed") if column.required else Reading()
    if text in column.categories:
        return Reading(text)
    wanted = text.casefold()
    for category in column.categories:
        if wanted in _spellings(column, category):
            return Reading(category)
    if any(wanted in spelling for category in column.categories for spelling in _spellings(column, category)):
        return Reading(problem="type on, or choose from the list")
    if column.unseen == "refuse":
        return Reading(problem="is not one of the choices")
    return Reading(text, mark="The model has never seen this one.")


def _spellings(column: Column, category: str) -> tuple[str, str, str]:
    readable = column.names.get(category, category)
    return category.casefold(), readable.casefold(), column.show_category(category).casefold()


def read_choice(column: Column, value: Any) -> Reading:
    return Reading(problem="is needed") if value is None and column.required else Reading(value)


def read_moment(column: Column, value: datetime | None) -> Reading:
    if value is None:
        return Reading(problem="is needed") if column.required else Reading()
    if not YEARS[0] <= value.year <= YEARS[1]:
        return Reading(problem=f"must lie between the years {YEARS[0]} and {YEARS[1]}")
    return Reading(value.replace(tzinfo=None).isoformat(timespec="minutes"))


class Field:
    """One labelled control. `read` says what it holds; `changed` is called after each keystroke or step."""

    def __init__(self, column: Column, control: widgets.DOMWidget, read: Callable[[], Reading]) -> None:
        self.column, self.control, self.read = column, control, read
        self._note = widgets.HTML()
        self._note.add_class("mlops-note")
        self.view = widgets.VBox([control, self._note], layout=WIDE)
        self.view.add_class("mlops-field")

    def observe(self, changed: Callable[[], None]) -> None:
        self.control.observe(lambda _: changed(), "value")

    def show(self, problem: str = "") -> Reading:
        """Writes help, mark or problem under the control; a problem of the API's comes before all."""
        reading = self.read()
        problem = problem or reading.problem
        kind, text = ("bad", problem) if problem else ("mark", reading.mark) if reading.mark else ("", self.column.help)
        shown = f'<span class="{kind}">{escape(text)}</span>' if text else ""
        if self._note.value != shown:
            self._note.value = shown
        return reading

    def set(self, value: Any) -> None:
        """Puts a value of an instance into the control."""
        column = self.column
        if column.type in NUMERIC:
            self.control.value = "" if value is None else number_plain(value)
        elif column.type == "datetime":
            self.control.value = None if value is None else datetime.fromisoformat(value)
        elif column.type == "boolean" or isinstance(self.control, widgets.Dropdown):
            self.control.value = value
        else:
            self.control.value = "" if value is None else column.show_category(str(value))


def number_plain(value: float) -> str:
    """A number as it can be typed again."""
    return f"{value + 0.0:.10g}"  # no "-0"


class NumberField(Field):
    """A text to type into and a slider over what training saw; an empty text is a value that is not known."""

    def __init__(self, column: Column) -> None:
        text = widgets.Text(description=column.title, placeholder=NOT_KNOWN, layout=WIDE)
        super().__init__(column, text, lambda: read_number(column, text.value))
        low, high = column.seen_low, column.seen_high
        if low is None or high is None or low >= high:
            return
        step = max(1.0, round((high - low) / 100)) if column.type == "integer" else nice_step(high - low)
        self.slider = widgets.FloatSlider(
            min=math.floor(low / step) * step,
            max=math.ceil(high / step) * step,
            step=step,
            readout=False,
            description=column.title,
            layout=WIDE,
        )
        self.slider.add_class("mlops-slider")
        self.view.children = [text, self.slider, self._note]
        self._placed = self.slider.value = self._place(low)
        text.observe(self._follow, "value")
        self.slider.observe(self._lead, "value")

    def _place(self, value: float) -> float:
        """The nearest step. Asked for another value, the browser would correct it, as if somebody had moved it."""
        slider = self.slider
        step = round((value - slider.min) / slider.step) * slider.step + slider.min
        return float(round(min(slider.max, max(slider.min, step)), 10))

    def _follow(self, _: object) -> None:
        value = self.read().value
        if value is not None:
            self._placed = self.slider.value = self._place(value)

    def _lead(self, _: object) -> None:
        moved = self.slider.value
        if abs(moved - self._placed) > self.slider.step / 4:
            self._placed = moved
            self.control.value = number_plain(round(moved, 10))


def nice_step(span: float) -> float:
    """About a hundred steps, each 1, 2 or 5 times a power of ten."""
    rough = span / 100
    power = 10.0 ** math.floor(math.log10(rough))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough))


def build_field(column: Column) -> Field:
    """The control that suits the column's type."""
    if column.type in NUMERIC:
        return NumberField(column)
    if column.type == "datetime":
        moment = widgets.NaiveDatetimePicker(description=column.title, layout=WIDE)
        return Field(column, moment, lambda: read_moment(column, moment.value))
    optional: list[tuple[str, Any]] = [] if column.required else [(NOT_KNOWN, None)]
    if column.type == "boolean":
        choice = widgets.Dropdown(
            description=column.title, options=[("yes", True), ("no", False), *optional], layout=WIDE
        )
        return Field(column, choice, lambda: read_choice(column, choice.value))
    if len(column.categories) <= FEW:
        options = [(column.show_category(category), category) for category in column.categories]
        choice = widgets.Dropdown(description=column.title, options=[*options, *optional], layout=WIDE)
        return Field(column, choice, lambda: read_choice(column, choice.value))
    shown = [column.show_category(category) for category in column.categories]
    search = widgets.Combobox(
        description=column.title,
        options=shown,
        ensure_option=False,
        placeholder="type to search" if column.required else f"{NOT_KNOWN}; type to search",
        layout=WIDE,
    )
    return Field(column, search, lambda: read_category(column, search.value))


class Form:
    """All fields of a model, the ones that matter most in front."""

    def __init__(self, model: Model, changed: Callable[[], None]) -> None:
        self.fields = {column.name: build_field(column) for column in model.columns}
        self.reset(model.example)
        for field in self.fields.values():
            field.observe(changed)
        main, more = split_columns(model)
        self.view = widgets.VBox([self._group(main)])
        self.view.add_class("mlops-form")
        self._hidden = [column.name for column in more]
        self._toggle = widgets.ToggleButton(description=_more(len(more), opened=False), layout=WIDE)
        self._toggle.add_class("mlops-more")
        self._rest = self._group(more)
        hide(self._rest)
        self._toggle.observe(self._flip, "value")
        if more:
            self.view.children = [*self.view.children, self._toggle, self._rest]

    def _flip(self, _: object) -> None:
        opened = self._toggle.value
        hide(self._rest, not opened)
        self._toggle.description = _more(len(self._hidden), opened=opened)

    def _group(self, columns: Sequence[Column]) -> widgets.Box:
        group = widgets.Box([self.fields[column.name].view for column in columns])
        group.add_class("mlops-fields")
        return group

    def reset(self, row: Row) -> None:
        """Puts an instance into the fields; columns it lacks become unknown where they may."""
        for name, field in self.fields.items():
            if name in row or not field.column.required:
                field.set(row.get(name))

    def read(self, problems: dict[str, str] | None = None) -> Row | None:
        """The instance, or None while a field is wrong; every field says what it has to say."""
        problems = problems or {}
        readings = {name: field.show(problems.get(name, "")) for name, field in self.fields.items()}
        wrong = {name for name, reading in readings.items() if name in problems or reading.problem}
        if wrong:
            self._toggle.value = self._toggle.value or not wrong.isdisjoint(self._hidden)
            return None
        return {name: reading.value for name, reading in readings.items()}


def _more(count: int, *, opened: bool) -> str:
    return "Show fewer details" if opened else f"Show {count} more details"


def split_columns(model: Model) -> tuple[list[Column], list[Column]]:
    """The columns shown at once, in the order of the table, and the others: what must be given, then what counts."""
    if len(model.columns) <= MAIN_FIELDS + 2:
        return list(model.columns), []
    needed = [column for column in model.columns if column.required]
    ordered = [*(needed if len(needed) <= MAIN_FIELDS else []), *model.by_importance]
    chosen = set(list(dict.fromkeys(column.name for column in ordered))[:MAIN_FIELDS])
    main = [column for column in model.columns if column.name in chosen]
    return main, [column for column in model.columns if column.name not in chosen]
