"""The dataset file: written with a comment on every line, or brought up to date with what a person wrote kept."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from mlops_core.draft.infer import Draft

HEAD = """\
# What this table is: contract, features, splits, the API's schema and the form follow from it. Change what is wrong,
# then: mlops run --dataset {name}
#   type      number, integer, category, boolean, datetime or text      missing   true: a value may be missing
#   role      feature (if it is not said), target, time, id, group or ignore
#   range     [lowest, highest]; answers stay within the target's
#   known_at  when the value is known: always, after, or a distance from the event such as -2h; see predict_at
#   trusted   true: known in time for sure, though it predicts suspiciously well alone
#   label, unit, help   what people read in the form and in the answers
"""


def _flow(value: Any) -> str:
    value = json.loads(json.dumps(value, default=str))  # plain, where a person's file gave the editor's own lists
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=2**20)
    return text.removesuffix("\n").removesuffix("\n...")


def _line(name: str, value: Any, comment: str = "", indent: str = "") -> str:
    return f"{indent}{_flow(name)}: {_flow(value)}{f'  # {comment}' if comment else ''}".rstrip()


def _comment(draft: Draft) -> str:
    return "; ".join(part for part in (draft.seen, draft.decided, draft.check and f"CHECK: {draft.check}") if part)


def render(facts: Mapping[str, tuple[Any, str]], source: Mapping[str, tuple[Any, str]], drafts: Sequence[Draft]) -> str:
    """The file for a table that has none yet; every value comes with its comment."""
    lines = [HEAD.format(name=facts["name"][0])]
    lines += [_line(name, value, comment) for name, (value, comment) in facts.items()]
    lines += ["", "source:", *(_line(name, value, comment, "  ") for name, (value, comment) in source.items())]
    lines += ["", "columns:", *(_line(draft.name, draft.entry(), _comment(draft), "  ") for draft in drafts)]
    return "\n".join(lines) + "\n"


def update(text: str, source: Mapping[str, tuple[Any, str]], drafts: Sequence[Draft]) -> tuple[str, list[str]]:
    """The file that is there for the table as it is now, and what differs: what a person may have written stays.

    The source follows the table, columns come and go with it; where a column would be declared otherwise today,
    that is said and not done.
    """
    editor = YAML()
    editor.preserve_quotes, editor.width = True, 2**20
    tree = editor.load(text)
    moved, kept = _update_source(tree["source"], source)
    changed, same = _update_columns(tree["columns"], drafts)
    if not (moved or changed):
        return text, [*kept, *same]
    written = io.StringIO()
    editor.dump(tree, written)
    return written.getvalue(), [*moved, *kept, *changed, *same]


def _update_source(tree: Any, source: Mapping[str, tuple[Any, str]]) -> tuple[list[str], list[str]]:
    """What was changed, and what was kept although it would be otherwise today."""
    moved, kept = [], []
    for name, (value, _) in source.items():
        there = tree.get(name)
        if there != value and name == "missing_marks":
            kept.append(f"source.{name} is {_short(there)} and would be {_short(value)}; kept as it is")
        elif there != value:
            moved.append(f"source.{name}: {_short(there)} → {_short(value)}")
            tree[name] = value
    return moved, kept


def _update_columns(columns: Any, drafts: Sequence[Draft]) -> tuple[list[str], list[str]]:
    """The same for the columns."""
    changed, kept, found = [], [], {draft.name: draft for draft in drafts}
    for name in [name for name in columns if name not in found]:
        changed.append(f"{name}: no longer in the table; removed")
        del columns[name]
    for name, draft in found.items():
        if name not in columns:
            columns[name] = _flow_map(draft.entry())
            columns.yaml_add_eol_comment(_comment(draft) or "new", name)
            changed.append(f"{name}: new in the table; added as {_flow(draft.entry())}")
        elif other := difference(columns[name], draft.entry()):
            kept.append(f"{name}: {other}; kept as it is")
    return changed, kept


def difference(there: Mapping[str, Any], today: Mapping[str, Any]) -> str:
    """How a column is declared otherwise than it would be today; nothing where it is not."""
    parts = [
        f"{name} is {_short(there.get(name))} and would be {_short(today.get(name))}"
        for name in ("role", "type", "missing", "categories", "derive", "formats", "trusted")
        if there.get(name) != today.get(name)
    ]
    return ", ".join(parts)


def _short(value: Any) -> str:
    text = "not said" if value is None else _flow(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _flow_map(entry: Mapping[str, object]) -> CommentedMap:
    tree = CommentedMap(entry)
    tree.fa.set_flow_style()
    return tree


def read_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
