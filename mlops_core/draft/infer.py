"""What the columns of an unknown table are: their types and roles, and what a person should check.

The types are those that `contracts.coerce` reads back without a loss: what is inferred here is accepted there.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mlops_core.contracts import TRUE_WORDS, to_datetime
from mlops_core.errors import RequestError, did_you_mean

NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
INTEGER = r"[+-]?(?:0|[1-9][0-9]{0,17})"
LEADING_ZERO = r"0[0-9]+"
ISO = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
)
DATES = ("%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y",
         "%d %B %Y", "%B %d, %Y")  # fmt: skip
TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p")
DATE_LIKE = r"[0-9]{1,2}\D|\D[0-9]{4}"
MARKS = ("NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A", "<NA>", "?", "-", ".", "missing", "unknown")
SURE_MARKS = frozenset(("N/A", "n/a", "NaN", "nan", "NULL", "null", "#N/A", "<NA>"))  # of a text column, too
EVENTS = ("yes", "true", "1", "y", "bad", "late", "default", "churn", "positive", "fraud", "fail", "failed")
ID_NAME = re.compile(
    r"(?i:(^|[_\s.-])(id|key|uuid|guid|index|nr|no|number|rownum)$)|[a-z]I[dD]$"
)  # customerId, not paid
UNITS = {name: name for name in ("mm", "cm", "m", "km", "g", "kg", "t", "s", "ms", "min", "h", "km2", "m2", "l", "ml")}
UNITS |= {"pct": "%", "percent": "%", "eur": "€", "usd": "$", "gbp": "£", "degc": "°C", "degf": "°F", "sqft": "ft²"}
UNITS |= {"ft": "ft", "lb": "lb", "lbs": "lb", "oz": "oz", "mi": "mi", "mph": "mph", "kwh": "kWh", "days": "days"}
MAX_CLASSES = 50
MANY_VALUES = 20  # distinct numbers of a target from which it is a quantity and no label
FREE_TEXT = 50  # letters, on average
NEAR_UNIQUE = 0.5  # distinct values per row
FEW_ROWS = 20
MOST = 0.9  # of the cells: what so many are the column was meant to be
SHOWN = 3


class TargetError(RequestError):
    """The column that is to be predicted cannot be."""


class ColumnError(RequestError):
    """A column that was named is not there, or is not what it was named for."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"The table has no column '{name}'. {did_you_mean(name, known)}")


@dataclass
class Draft:
    """One column: what goes into the dataset file, what was seen, what a person should look at."""

    name: str
    type: str
    role: str = "feature"
    missing: bool = False
    seen: str = ""
    derive: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    trusted: bool = False
    known_at: str = "always"
    unit: str = ""
    label: str = ""
    decided: str = ""
    check: str = ""

    def entry(self) -> dict[str, object]:
        """What the dataset file says of it, without what is the default anyway."""
        tree: dict[str, object] = {} if self.role == "feature" else {"role": self.role}
        tree["type"] = self.type
        for name in ("categories", "derive", "formats"):
            if value := getattr(self, name):
                tree[name] = value
        if self.missing:
            tree["missing"] = True
        if self.trusted:
            tree["trusted"] = True
        if self.known_at != "always":
            tree["known_at"] = self.known_at
        if self.unit:
            tree["unit"] = self.unit
        if self.label:
            tree["label"] = self.label
        return tree


def find_marks(frame: pd.DataFrame) -> list[str]:
    """The texts that stand for a missing value: beside numbers and dates any usual one, elsewhere the sure ones."""
    found = {""}
    for name in frame:
        if not _is_text(frame[name]):
            continue
        values = pd.Series(frame[name].dropna().unique(), dtype="str")
        marked = values.isin(MARKS)
        present, rest = set(values[marked]), values[~marked & (values != "")]
        if present and len(rest) and (_all_match(rest, NUMBER) or find_formats(rest) is not None):
            found |= present
        found |= present & SURE_MARKS
    return sorted(found)


def find_formats(values: pd.Series) -> list[str] | None:
    """How the dates among distinct texts are written: nothing for ISO 8601, else formats; None if they are no dates."""
    others = values[~values.str.fullmatch(ISO)]
    if not others.str.contains(DATE_LIKE).all():
        return None
    formats, left = _match_formats(others)
    if len(left) or _read_iso(values[values.str.fullmatch(ISO)]).isna().any():
        return None
    return formats


def _match_formats(left: pd.Series) -> tuple[list[str], pd.Series]:
    """The formats that fit most of what is left by the ones before, and what none of them fits."""
    formats: list[str] = []
    while len(left) and len(formats) < 3:
        sample = left if len(left) <= 50 else left.sample(50, random_state=0)
        ranked = sorted(
            (date + time for date in DATES for time in TIMES),
            key=lambda form: -pd.to_datetime(sample, format=form, errors="coerce").notna().sum(),
        )
        fits = pd.to_datetime(left, format=ranked[0], errors="coerce").notna()
        if not fits.any():
            break
        formats.append(ranked[0])
        left = left[~fits]
    return formats, left


def _read_iso(values: pd.Series) -> pd.Series:
    return pd.to_datetime(values, format="ISO8601", errors="coerce", utc=True)


def find_strays(counts: pd.Series) -> str:
    """What to check of counted texts that are numbers or dates but for a few, which make a text of the column."""
    counts = counts.set_axis(counts.index.astype("str"))
    counts = counts[(counts > 0) & ~counts.index.isin(MARKS)]  # these will be marks as soon as the others are mended
    texts = pd.Series(counts.index, dtype="str")
    numbers = texts.str.fullmatch(NUMBER) & ~texts.str.fullmatch(LEADING_ZERO).any()
    return _tell_strays(counts, numbers, "numbers") or _tell_stray_dates(counts, texts)


def _tell_stray_dates(counts: pd.Series, texts: pd.Series) -> str:
    like = texts.str.contains(DATE_LIKE)
    if not _are_most(counts, like):
        return ""
    iso = texts.str.fullmatch(ISO)
    read = iso & _read_iso(texts.where(iso)).notna()
    formats, left = _match_formats(texts[like & ~iso])
    names = ["ISO 8601"] * bool(read.any()) + formats
    return _tell_strays(counts, read | (like & ~iso & ~texts.index.isin(left.index)), f"dates ({' or '.join(names)})")


def _are_most(counts: pd.Series, fits: pd.Series) -> bool:
    return bool(counts[fits.to_numpy()].sum() >= MOST * counts.sum())


def _tell_strays(counts: pd.Series, fits: pd.Series, what: str) -> str:
    if fits.all() or not _are_most(counts, fits):
        return ""
    strays = [_printable(text) for text in counts.index[~fits.to_numpy()]]
    more = f" and {len(strays) - SHOWN} more" if len(strays) > SHOWN else ""
    return (
        f"{counts[fits.to_numpy()].sum():,} of {counts.sum():,} read as {what}, these do not: "
        f"{', '.join(strays[:SHOWN])}{more}; mend them, or list them in missing_marks and change type and missing"
    )


def _printable(text: str) -> str:
    """The start of a value as part of a line, which may be a comment of the dataset file; spaces around it are seen."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[:20])
    return shown if shown == shown.strip() else f"'{shown}'"


def infer_column(raw: pd.Series) -> Draft:
    """The type and role of one column whose missing marks are gone."""
    name, counts = str(raw.name), raw.value_counts()
    label, unit = spell(name)
    draft = Draft(name, "text", missing=bool(raw.isna().any()), label=label)
    values = pd.Series(counts.index)
    if values.empty:
        draft.role, draft.decided = "ignore", "holds no value at all"
        return draft
    _set_type(draft, values)
    if draft.type in ("number", "integer"):
        draft.unit = unit
    elif unit:
        draft.label = spell(name, units=False)[0]
    draft.seen = _describe(draft, counts, raw)
    _set_role(draft, raw, values)
    if draft.type in ("category", "text") and draft.role != "id":
        draft.check = find_strays(counts)
    return draft


def spell(name: str, units: bool = True) -> tuple[str, str]:
    """`bill_length_mm` as people would write it, and its unit: `Bill length`, `mm`; nothing where nothing changes.

    Capitals stay where they mean something: in `pH`, in `GDP`, in a name with blanks, which was written to be read.
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", " ", name.replace("_", " ").replace(".", " ")).split()
    unit = UNITS.get(words[-1], "") if units and len(words) > 1 else ""
    text = " ".join(
        word if position == 0 or " " in name.strip() else _without_capital(word)
        for position, word in enumerate(words[:-1] if unit else words)
    )
    label = text[:1].upper() + text[1:] if words and words[0].islower() else text
    return ("" if label == name else label), unit


def _without_capital(word: str) -> str:
    return word.lower() if word[1:].islower() and word.isalpha() else word


def _is_text(series: pd.Series) -> bool:
    return series.dtype == "object" or isinstance(series.dtype, (pd.StringDtype, pd.CategoricalDtype))


def _all_match(values: pd.Series, pattern: str) -> bool:
    return bool(values.str.fullmatch(pattern).all())


def _set_type(draft: Draft, values: pd.Series) -> None:
    if pd.api.types.is_bool_dtype(values.dtype):
        draft.type = "boolean"
    elif pd.api.types.is_datetime64_any_dtype(values.dtype):
        draft.type = "datetime"
    elif pd.api.types.is_numeric_dtype(values.dtype):
        draft.type = "integer" if pd.api.types.is_integer_dtype(values.dtype) else "number"
    else:
        _set_type_of_texts(draft, values.astype("str"))


def _set_type_of_texts(draft: Draft, values: pd.Series) -> None:
    words = values.str.strip().str.lower()
    if words.isin(TRUE_WORDS).all() and not words.isin(["0", "1"]).all():
        draft.type = "boolean"
        draft.decided = f"the words {', '.join(sorted(values.astype(str)))} are true and false"
    elif _all_match(values, INTEGER):
        draft.type = "integer"
    elif values.str.fullmatch(LEADING_ZERO).any() and _all_match(values, "[0-9]+"):
        draft.type, draft.decided = "category", "leading zeros: a code and no number"
    elif _all_match(values, NUMBER) and np.isfinite(pd.to_numeric(values, errors="coerce")).all():
        draft.type = "number"
    elif (formats := find_formats(values)) is not None:
        draft.type, draft.formats = "datetime", formats
        if formats:
            draft.decided = f"dates are written as {' or '.join(formats)}"
            if {"%m/%d/%Y", "%m-%d-%Y"} & {form.split(" ")[0] for form in formats}:
                draft.check = "month first or day first? Both may be read; see `formats`"
    else:
        draft.type = "category"


def _describe(draft: Draft, counts: pd.Series, raw: pd.Series) -> str:
    empty = f", {int(raw.isna().sum()):,} missing" if draft.missing else ""
    values = counts.index
    if draft.type in ("number", "integer"):
        numbers = pd.to_numeric(pd.Series(values), errors="coerce").astype("float64")
        return f"{numbers.min():g} to {numbers.max():g}{empty}"
    if draft.type == "datetime":
        texts = sorted(map(str, values))
        shown = f"{len(values):,} moments, such as {texts[0]}" if draft.formats else f"{texts[0]} to {texts[-1]}"
        return f"{shown}{empty}"
    shown = ", ".join(str(value)[:20] for value in values[:3])
    return f"{len(values):,} value{'s' * (len(values) > 1)}, most often {shown}{empty}".replace("\n", " ")


def _set_role(draft: Draft, raw: pd.Series, values: pd.Series) -> None:
    distinct, rows = len(values), int(raw.notna().sum())
    unique = distinct == len(raw)
    if distinct == 1 and not draft.missing:
        draft.role, draft.decided = "ignore", "the same value in every row"
    elif unique and ID_NAME.search(draft.name) and draft.type in ("integer", "category") and len(raw) > 1:
        draft.role, draft.type, draft.decided = "id", "text" if draft.type == "category" else draft.type, "unique"
    elif draft.type == "integer" and unique and rows >= FEW_ROWS and _counts_up(values):
        draft.role, draft.decided = "ignore", "counts the rows"
    elif draft.type == "category":
        texts = values.astype("str")
        if texts.str.len().mean() > FREE_TEXT or (texts.str.count(" ").mean() > 5 and distinct > NEAR_UNIQUE * rows):
            draft.role, draft.type, draft.decided = "ignore", "text", "free text, which no model here reads"
        elif distinct > NEAR_UNIQUE * rows and rows >= FEW_ROWS:
            draft.role, draft.type, draft.decided = "ignore", "text", "nearly every row has a value of its own"
    elif draft.type == "datetime":
        draft.derive = _parts(values, draft.formats)


def _counts_up(values: pd.Series) -> bool:
    numbers = pd.to_numeric(values, errors="coerce")
    return bool(numbers.max() - numbers.min() + 1 == len(numbers))


def _parts(values: pd.Series, formats: list[str]) -> list[str]:
    moments = to_datetime(values, formats)
    minutes = moments.dt.hour * 60 + moments.dt.minute
    return [*(["minute_of_day"] if minutes.max() > minutes.min() else []), "day_of_week", "month"]


def choose_task(target: pd.Series, asked: str | None) -> str:
    """`binary`, `multiclass` or `regression`. Raises TargetError for a target that cannot be that."""
    values = target.dropna()
    distinct = values.nunique()
    if values.empty:
        raise TargetError(f"The target '{target.name}' is missing in every row; there is nothing to learn.")
    if distinct == 1:
        raise TargetError(f"The target '{target.name}' is '{values.iloc[0]}' in every row; there is nothing to learn.")
    draft = infer_column(target)
    numeric = draft.type in ("number", "integer")
    strays = f" {draft.check}." if draft.type in ("category", "text") and draft.check else ""
    fits = {"binary": distinct == 2, "multiclass": 2 < distinct <= MAX_CLASSES, "regression": numeric}
    if asked:
        if asked not in fits:
            raise TargetError(f"There is no task '{asked}'. {did_you_mean(asked, fits)}")
        if not fits[asked]:
            kind = "numbers" if numeric else "texts"
            raise TargetError(
                f"The target '{target.name}' has {distinct:,} different {kind}: no {asked} target.{strays}"
            )
        return asked
    if numeric and distinct > MANY_VALUES:
        return "regression"
    if not numeric and distinct > MAX_CLASSES:
        raise TargetError(
            f"The target '{target.name}' has {distinct:,} different texts, more than {MAX_CLASSES} classes. "
            f"Choose another column, or make fewer classes of it.{strays}"
        )
    return "binary" if distinct == 2 else "multiclass"


def order_classes(target: pd.Series) -> list[str]:
    """The labels; of two the last one is the event: what is called so, or the rarer one."""
    counts = target.dropna().astype("str").value_counts()
    if len(counts) != 2:
        return sorted(counts.index)
    named = [label for label in counts.index if label.strip().lower() in EVENTS]
    event = named[0] if len(named) == 1 else counts.index[-1]
    return [label for label in counts.index if label != event] + [event]
