"""Who is behind an access token: asked of the database for every request, or known for as long as that has not changed.

Verifying a signature and joining two tables costs more than a prediction. On SQLite both are remembered until any other
connection commits anything (`PRAGMA data_version`), so that a revocation acts on the next request, whoever made it.
PostgreSQL tells nobody for free: there only the signature is remembered.
"""

import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool

from api.accounts import User
from api.records import AccountsUnavailableError
from api.sessions import UnauthenticatedError, check_session
from api.tokens import LEEWAY_SECONDS, Claims, KeyRing, verify_access_token
from mlops_core.database import BUSY_SECONDS, sqlite_file

MAX_KNOWN = 4096
RECHECK_SECONDS = 60.0


@dataclass(frozen=True)
class Caller:
    """Who asks: the account as the database knows it now, and the session."""

    user: User
    claims: Claims


class Changes:
    """Says when the SQLite file behind an engine was changed by any connection, or replaced."""

    def __init__(self, file: Path) -> None:
        self._file, self._inode = file.absolute(), 0
        self._connection: sqlite3.Connection | None = None

    def stamp(self) -> tuple[int, int]:
        """Differs from the last one after any change. Raises OSError or sqlite3.Error when the file cannot be asked."""
        inode = self._file.stat().st_ino
        if self._connection is None or inode != self._inode:
            self.close()
            address = f"{self._file.as_uri()}?mode=ro"
            self._connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
            self._inode = inode
        return inode, self._connection.execute("PRAGMA data_version").fetchone()[0]

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


@dataclass
class Callers:
    """Tokens that were verified, and whose they are; since when nobody can be asked about."""

    ring: KeyRing
    engine: Engine
    down_since: float | None = None
    _claims: dict[str, Claims] = field(default_factory=dict)
    _known: dict[str, tuple[float, Caller]] = field(default_factory=dict)
    _stamp: object = None
    _changes: Changes | None = None

    def __post_init__(self) -> None:
        file = sqlite_file(self.engine.url.render_as_string(hide_password=False))
        self._changes = Changes(file) if file else None

    async def find(self, token: str) -> Caller:
        """Raises InvalidTokenError, UnauthenticatedError or AccountsUnavailableError."""
        now = time.time()
        stamp = self._look()
        claims = self._verified(token, now)
        if stamp is not None and (known := self._known.get(token)) and known[0] > now:
            return known[1]
        caller = Caller(await self._ask(claims, now), claims)
        if stamp is not None and stamp == self._stamp:  # what was read is at least as new as the stamp
            self._known[token] = now + RECHECK_SECONDS, caller
        return caller

    async def _ask(self, claims: Claims, now: float) -> User:
        try:
            user = await run_in_threadpool(check_session, self.engine, claims.sub, claims.sid, claims.ver)
        except AccountsUnavailableError:
            self.down_since = self.down_since or now
            raise
        except UnauthenticatedError:
            self.down_since = None
            raise
        self.down_since = None
        return user

    def _look(self) -> object:
        """The stamp of now, None where nothing may be remembered; forgets everybody when it is a new one."""
        if self._changes is None:
            return None
        try:
            stamp = self._changes.stamp()
        except (OSError, sqlite3.Error):
            return None  # the database itself will say what is wrong
        if stamp != self._stamp:
            self._stamp = stamp
            self._known.clear()
        return stamp

    def _verified(self, token: str, now: float) -> Claims:
        claims = self._claims.get(token)
        if claims is None or claims.exp <= now - LEEWAY_SECONDS:
            self._claims.pop(token, None)
            claims = verify_access_token(self.ring, token)
            if len(self._claims) >= MAX_KNOWN:
                self._claims.clear()
                self._known.clear()
            self._claims[token] = claims
        return claims

    def close(self) -> None:
        if self._changes:
            self._changes.close()
