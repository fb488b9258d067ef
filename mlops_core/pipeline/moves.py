"""What people ask and tell the registry: which versions there are, make one the champion, go back.

Imports nothing that an installation for serving lacks.
"""

from datetime import UTC, datetime

from mlops_core.params import load_params
from mlops_core.paths import find_root
from mlops_core.registry.champions import (
    REASON,
    get_champion,
    list_models,
    list_versions,
    locate_bundle,
    promote,
    roll_back,
)
from mlops_core.registry.store import open_store
from mlops_core.serve.predictor import load_predictor
from mlops_core.settings import load_settings


def describe_models() -> str:
    """One line per version of every registered model, newest first."""
    store = open_store(find_root(), load_settings())
    lines = []
    for name in list_models(store):
        champion = get_champion(store, name)
        for version in list_versions(store, name):
            mark = "champion" if champion and champion.version == version.version else ""
            made = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
            loss = version.tags.get("test_loss", "")
            reason = version.tags.get(REASON, "")
            lines.append(f"{name:<16} {version.version:>4}  {made}  {loss:<22} {mark:<9} {reason}".rstrip())
    return "\n".join(lines) or "No model is registered yet. Train one with: mlops run"


def promote_version(model: str, version: int, reason: str) -> str:
    """Moves the champion alias by hand. Raises ModelNotFoundError, or BundleError for one that cannot be served."""
    root = find_root()
    name, store = model or load_params(root=root).dataset, open_store(root, load_settings())
    load_predictor(locate_bundle(store, name, version))
    promote(store, name, version, reason)
    return f"Champion: {name} version {version} ({reason})"


def roll_back_champion(model: str, reason: str) -> str:
    """Gives the alias back. Raises ModelNotFoundError, NothingBeforeError."""
    root = find_root()
    name, store = model or load_params(root=root).dataset, open_store(root, load_settings())
    return f"Champion: {name} version {roll_back(store, name, reason)}"
