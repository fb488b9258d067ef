"""The first start on a fresh machine: one admin with a random password, shown once. Production makes nothing up."""

import asyncio
from pathlib import Path

from sqlalchemy import Engine

from api.accounts import ADMIN, SCOPES, create_user, has_admin
from api.passwords import generate_password
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
