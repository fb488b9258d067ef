"""What the files for clouds and for CI would create, read from the files themselves; nothing is created here."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mlops_core.errors import MLOpsError

SUFFIXES = (".yaml", ".yml", ".json")
LOCAL = (".", "$/")  # workflows of this very commit
PINNED = re.compile(r"@[0-9a-f]{40}$")


class TemplateError(MLOpsError):
    """A file that its tool could not read either."""

    def __init__(self, file: str, problem: str) -> None:
        self.file, self.problem = file, problem
        super().__init__(f"{file} cannot be read: {problem}")


class _Lenient(yaml.SafeLoader):
    """CloudFormation's short functions (`!Ref`, `!Sub`) are values like any other here."""


def _plain(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_Lenient.add_multi_constructor("!", _plain)


def read_documents(root: Path, file: Path) -> list[Any]:
    """Raises TemplateError."""
    text = file.read_text(encoding="utf-8")
    try:
        if file.suffix == ".json":
            return [json.loads(text)]
        return [tree for tree in yaml.load_all(text, Loader=_Lenient) if tree is not None]
    except (ValueError, yaml.YAMLError) as error:
        raise TemplateError(file.relative_to(root).as_posix(), " ".join(str(error).split())) from None


def find_kinds(tree: Any) -> Iterator[str]:
    """The kinds of what a document creates: Kubernetes, CloudFormation, Azure and compose name them differently."""
    if not isinstance(tree, dict):
        return
    if isinstance(tree.get("Resources"), dict):
        yield from (str(item.get("Type", "?")) for item in tree["Resources"].values())
    elif "kind" in tree:
        yield str(tree["kind"])
    elif str(tree.get("type", "")).startswith("Microsoft."):
        yield str(tree["type"])
    elif isinstance(tree.get("services"), dict):
        yield from ["service"] * len(tree["services"])
    elif isinstance(tree.get("resources"), list):
        yield from (str(item.get("type", "?")) if isinstance(item, dict) else "part" for item in tree["resources"])


def describe_templates(root: Path, folder: str) -> dict[str, dict[str, str]]:
    """By file: what it creates, by count. Raises TemplateError for a file that nobody could use."""
    found = {}
    for file in _files(root / folder):
        kinds = Counter(kind for tree in read_documents(root, file) for kind in find_kinds(tree))
        creates = ", ".join(f"{count} × {kind}" if count > 1 else kind for kind, count in sorted(kinds.items()))
        found[file.relative_to(root).as_posix()] = {"creates": creates or "settings"}
    return found


def describe_workflows(root: Path) -> dict[str, dict[str, str]]:
    """By file: what starts it, its jobs, and how many of its actions are pinned to a commit. Raises TemplateError."""
    found = {}
    for file in _files(root / ".github" / "workflows"):
        (tree,) = read_documents(root, file)
        starts = tree.get("on", tree.get(True, {}))  # YAML 1.1 reads a bare `on` as true
        used = [name for name in _find_used(tree) if not name.startswith(LOCAL)]
        found[file.relative_to(root).as_posix()] = {
            "starts on": starts if isinstance(starts, str) else ", ".join(starts),
            "jobs": ", ".join(tree.get("jobs", {})),
            "pinned": f"{sum(bool(PINNED.search(name)) for name in used)} of {len(used)} actions",
        }
    return found


def _find_used(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict) and isinstance(tree.get("uses"), str):
        yield tree["uses"]
    if isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _find_used(part)


def find_pages(root: Path, folder: str) -> list[str]:
    """Pages in docs/ that speak of a folder."""
    pages = sorted((root / "docs").rglob("*.md")) if (root / "docs").is_dir() else []
    return [page.relative_to(root).as_posix() for page in pages if folder in page.read_text(encoding="utf-8")]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES) if folder.is_dir() else []
