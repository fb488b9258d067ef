"""The first start on a fresh machine: databases, and one admin, whose password locally is made up and shown once."""

import asyncio
from pathlib import Path

from sqlalchemy import Engine

from api.accounts import ADMIN, SCOPES, create_user, has_admin
from api.migrations import migrate
from api.passwords import generate_password
from api.settings import ApiSettings
from mlops_core.database import open_engine
from mlops_core.paths import state_dir

KEPT_IN = "admin_password"


def ensure_admin(engine: Engine, root: Path) -> str:
    """The password of the admin that was made now, also kept with mode 0600; nothing when there is one already."""
    if has_admin(engine):
        return ""
    password = generate_password()
    asyncio.run(create_user(engine, ADMIN, password, SCOPES))
    path = state_dir(root) / KEPT_IN
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(password + "\n", encoding="ascii")
    return password


def prepare(settings: ApiSettings, root: Path) -> bool:
    """Brings both databases up to date before replicas start; says whether it made the first admin.

    That one has `MLOPS_ADMIN_PASSWORD`; without it nobody is made. Raises what the settings, the databases and the
    rules for passwords raise.
    """
    url, log_url = settings.database(root), settings.prediction_log(root)
    for store in dict.fromkeys((url, log_url)):
        migrate(store, state_dir(root))
    password = settings.admin_password.get_secret_value()
    engine = open_engine(url)
    try:
        if not password or has_admin(engine):
            return False
        asyncio.run(create_user(engine, ADMIN, password, SCOPES))
    finally:
        engine.dispose()
    return True
