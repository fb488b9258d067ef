"""`mlops init`: looks at a table, writes its dataset file, and says what it decided and what a person should check."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mlops_core.contracts import coerce
from mlops_core.datasets import DatasetSpec, build_dataset, parse_tree
from mlops_core.draft.infer import ColumnError, Draft, TargetError, choose_task, find_marks, infer_column, order_classes
from mlops_core.draft.tables import TakeError, Taken, name_of, take_file, take_url
from mlops_core.draft.write import difference, read_text, render, update
from mlops_core.errors import list_names
from mlops_core.ingest import mark_missing
from mlops_core.params import load_params
from mlops_core.paths import dataset_file
from mlops_core.preprocess import audit_leaks
from mlops_core.reports import replace_file

LEAK_AUC = 0.995  # alone this good, a column is the target under another name
MARGIN = 0.08  # the training rows may say a little more than all rows
ALONE = "alone it ranks the target"
AUDIT_ROWS = 20_000
MIN_ROWS = 50
FEW_OF_A_CLASS = 10
SHOWN = 12
BY_TIME = "rows are split by it: the latest are the test"
BY_GROUP = "rows of one group are never on both sides of a split"
NOT_BY_GROUP = "the rows are split by time, so one group may be on both sides: leave out --time to keep it together"


@dataclass(frozen=True)
class Wish:
    """What somebody asked `mlops init` for."""

    table: str
    target: str
    name: str = ""
    time: str = ""
    id: str = ""
    group: str = ""
    task: str = ""
    sha256: str = ""
    sql: str = ""
    query: str = ""


def init_table(root: Path, wish: Wish) -> str:
    """Writes `data/datasets/<name>.yaml` and the table beside the others; returns the report. Raises RequestError."""
    taken, name = _take(root, wish)
    file = dataset_file(root, name)
    before = read_text(file)
    written = _read_written(before, name, wish)
    marks = find_marks(taken.frame)
    frame = mark_missing(taken.frame, written["source"].get("missing_marks", marks) if written else marks)
    task = _check(frame, wish)
    drafts = [infer_column(frame[column]) for column in frame]
    _give_roles(drafts, frame, wish, task)
    facts = _facts(wish, name, task, taken)
    source = {
        "kind": (taken.kind, ""),
        "path": (taken.path.as_posix(), "the table itself; another one needs another hash: run mlops init again"),
        "sha256": (taken.sha256, ""),
        "missing_marks": (marks, "texts that stand for a missing value"),
    }
    spec = _build(name, facts, source, drafts)
    _find_leaks(spec, frame, drafts, load_params(root=root).preprocess.audit_auc)
    spec = _build(name, facts, source, drafts)
    content, changes = (render(facts, source, drafts), []) if before is None else update(before, source, drafts)
    if written:
        written = yaml.safe_load(content)
        spec = build_dataset(name, written)
        drafts = [draft for draft in drafts if not difference(written["columns"][draft.name], draft.entry())]
    taken.keep(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, content.encode())
    head = f"data/datasets/{name}.yaml: {len(frame):,} rows, {task}, target '{wish.target}'"
    return "\n".join([head, *_report(spec, drafts, changes if written else None)])


def _read_written(text: str | None, name: str, wish: Wish) -> dict[str, Any] | None:
    """The dataset file that is there, if it is for the same table. Raises RequestError for another one's."""
    if text is None:
        return None
    tree = parse_tree(name, text)
    if "path" not in (tree.get("source") or {}) or tree.get("target") != wish.target:
        raise TakeError(
            f"data/datasets/{name}.yaml is there, and not for a table with the target '{wish.target}'. "
            "Give this one another name with --name, or delete that file."
        )
    build_dataset(name, tree)  # says what a person wrote that cannot be
    return tree


def _take(root: Path, wish: Wish) -> tuple[Taken, str]:
    if bool(wish.sql) != bool(wish.query):
        raise TakeError("--sql and --query belong together: a database's address and what to ask it.")
    if bool(wish.sql) == bool(wish.table):
        raise TakeError("Name one table: a file, an address, or --sql with --query.")
    if wish.sql and not wish.name:
        raise TakeError("A query needs a name for what it returns: --name.")
    name = wish.name or name_of(wish.table)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise TakeError(f"'{name}' is no name for a dataset: use lower case letters, digits and underscores.")
    if wish.sql:
        from mlops_core.draft.queries import take_query

        return take_query(wish.sql, wish.query, name), name
    if "://" in wish.table:
        return take_url(wish.table, name, wish.sha256), name
    return take_file(wish.table, name, root), name


def _check(frame: pd.DataFrame, wish: Wish) -> str:
    """The task. Raises RequestError for whatever makes the rest pointless."""
    if not wish.target:
        columns = list_names([str(name) for name in frame.columns])
        raise TargetError(f"Name the target: --target COLUMN. The columns are {columns}.")
    for name in (wish.target, wish.time, wish.id, wish.group):
        if name and name not in frame:
            raise ColumnError(name, map(str, frame.columns))
    named = [name for name in (wish.target, wish.time, wish.id, wish.group) if name]
    if twice := [name for name in named if named.count(name) > 1]:
        raise TakeError(f"The column '{twice[0]}' cannot be two things at once.")
    task = choose_task(frame[wish.target], wish.task or None)
    known = int(frame[wish.target].notna().sum())
    if known < MIN_ROWS:
        raise TargetError(f"Only {known:,} rows have a target; at least {MIN_ROWS} are needed to learn and to test.")
    return task


def _give_roles(drafts: Sequence[Draft], frame: pd.DataFrame, wish: Wish, task: str) -> None:
    found = {draft.name: draft for draft in drafts}
    _set_target(found[wish.target], frame[wish.target], task)
    _give_named(found, wish)
    ids = [draft for draft in drafts if draft.role == "id" and draft.name != wish.id]
    for draft in ids if wish.id else ids[1:]:
        draft.role, draft.decided = "ignore", "unique in every row"
    times = [draft for draft in drafts if draft.type == "datetime" and draft.role == "feature" and not draft.missing]
    if not wish.time and not wish.group and len(times) == 1:
        times[0].role, times[0].decided = "time", BY_TIME
    for draft in drafts:
        if draft.role not in {"feature", "time"}:
            draft.derive = []
        if draft.role == "time":  # the months to come are none that training saw
            draft.derive = [part for part in draft.derive if part != "month"]


def _set_target(target: Draft, values: pd.Series, task: str) -> None:
    target.role, target.known_at, target.derive, target.formats, target.check = "target", "after", [], [], ""
    if task == "regression":
        target.type = "number"
        if pd.to_numeric(values, errors="coerce").min() >= 0:
            target.decided = "no value is below 0; say so with `range`, and no answer is"
        return
    target.type, target.categories = "category", order_classes(values)
    counts = values.dropna().astype("str").value_counts()
    if counts.iloc[-1] < FEW_OF_A_CLASS:
        target.check = f"'{counts.index[-1]}' has {counts.iloc[-1]} rows only: too few to learn or to test"
    elif task == "binary":
        target.decided = f"'{target.categories[-1]}' is the event, the last of `categories`"


def _give_named(found: dict[str, Draft], wish: Wish) -> None:
    if wish.time:
        time = found[wish.time]
        if time.type != "datetime" or time.missing:
            problem = "has missing values" if time.type == "datetime" else "holds no dates that can be read"
            strays = f" {time.check}." if time.type != "datetime" and time.check else ""
            raise TakeError(f"The column '{wish.time}' cannot order the rows in time: it {problem}.{strays}")
        time.role, time.decided = "time", BY_TIME
    if wish.id:
        draft = found[wish.id]
        draft.role, draft.decided, draft.check = "id", "", ""
        draft.type = draft.type if draft.type in ("integer", "text") else "text"
    if wish.group:
        draft = found[wish.group]
        draft.role, draft.decided, draft.check = "group", BY_GROUP, ""
        if wish.time:
            draft.decided, draft.check = "", NOT_BY_GROUP
        draft.type = draft.type if draft.type in ("integer", "text") else "category"


def _facts(wish: Wish, name: str, task: str, taken: Taken) -> dict[str, tuple[Any, str]]:
    question = f"What is {wish.target}?" if task == "regression" else f"Which {wish.target} is it?"
    return {
        "name": (name, "as this file is called"),
        "title": (name.replace("_", " ").capitalize(), "what people read"),
        "question": (question, "what people ask"),
        "origin": (taken.origin, "where it comes from, and under which licence"),
        "task": (task, "binary, multiclass or regression"),
        "target": (wish.target, "what is predicted"),
        "predict_at": ("0h", "when: at the event, or before it, such as -2h; what is known later is refused"),
    }


def _build(
    name: str, facts: dict[str, tuple[Any, str]], source: dict[str, tuple[Any, str]], drafts: Sequence[Draft]
) -> DatasetSpec:
    if not any(draft.role == "feature" or draft.derive for draft in drafts):
        raise TakeError("No column is left to predict from: all are constant, unique, free text, or the target.")
    return build_dataset(name, yaml.safe_load(render(facts, source, drafts)))


def _find_leaks(spec: DatasetSpec, frame: pd.DataFrame, drafts: Sequence[Draft], limit: float) -> None:
    """Ignores what is the target under another name; trusts, and says so, what is only suspiciously good."""
    known = frame[frame[spec.target].notna()]
    sample = known if len(known) <= AUDIT_ROWS else known.sample(AUDIT_ROWS, random_state=0)
    typed, _ = coerce(sample.reset_index(drop=True), spec.columns)
    audit = audit_leaks(spec, typed, limit).set_index("column")
    for draft in drafts:
        if draft.role != "feature" or (score := audit.loc[draft.name, "roc_auc"]) <= limit - MARGIN:
            continue
        draft.trusted = score < LEAK_AUC
        if not draft.trusted:
            draft.role, draft.known_at, draft.derive = "ignore", "after", []
        if score > limit:
            used = "Used as if it were." if draft.trusted else "Ignored for now."
            draft.check = f"{ALONE} with an AUC of {score:.3f}: is it known in time? {used}"


def _report(spec: DatasetSpec, drafts: Sequence[Draft], changes: list[str] | None) -> list[str]:
    """`changes`: what differs from a file that was there, whose columns `drafts` are; None where there was none."""
    leaks = sorted((draft for draft in drafts if ALONE in draft.check), key=lambda draft: draft.role != "ignore")
    lines = [f"  {draft.name}: {draft.check}" for draft in leaks]
    lines += [f"  {draft.name}: {draft.check}" for draft in drafts if draft.check and draft not in leaks]
    said = [f"  {draft.name}: {draft.role}; {draft.decided}" for draft in drafts if draft.decided]
    by = f"by time ({spec.time})" if spec.time else f"by {spec.group}" if spec.group else "at random"
    report = [f"{len(spec.features)} of {len(spec.columns)} columns are features; rows are split {by}"]
    report += ["Check:", *_first(lines)] * bool(lines)
    report += ["Decided:", *_first(said)] * bool(said)
    if changes is not None:
        report.append("The file was there, and what you wrote is kept. What is different:")
        report += [f"  {line}" for line in changes or ["nothing"]]
    return [*report, f"Next: mlops run --dataset {spec.name}"]


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return lines if more <= 1 else [*lines[:SHOWN], f"  and {more} more, in the file"]
