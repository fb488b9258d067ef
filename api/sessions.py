"""Logging in and staying logged in: sessions, each a family of refresh tokens of which only the newest is valid.

MLOpsError
├── InvalidCredentialsError    a FailedAttemptError: unknown, wrong and disabled all alike
├── InvalidRefreshTokenError
├── ScopeNotGrantedError
└── UnauthenticatedError       an access token whose session, account or version is over

A refresh token is base64url of 16 bytes that name its family and 32 that are fresh each time. The database knows
digests only, and a token of the family that is not the newest has been stolen from one side or the other.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from api.accounts import ID, User, find_record, fold_name, user_of
from api.passwords import hash_password, needs_rehash, verify_password
from api.records import SessionRecord, UserRecord, reading, utc_now, writing
from api.throttle import FailedAttemptError, guarded, login_counters
from mlops_core.errors import MLOpsError

IDLE_LIMIT = timedelta(days=7)
ABSOLUTE_LIMIT = timedelta(days=30)
FAMILY_BYTES = 16
FRESH_BYTES = 32
TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{(FAMILY_BYTES + FRESH_BYTES) * 4 // 3}}}")


class InvalidCredentialsError(FailedAttemptError):
    def __init__(self) -> None:
        super().__init__("The user name or the password is wrong.")


class InvalidRefreshTokenError(MLOpsError):
    def __init__(self) -> None:
        super().__init__("The refresh token is not valid. Log in again.")


class ScopeNotGrantedError(MLOpsError):
    def __init__(self) -> None:
        super().__init__("This account has none of the requested scopes.")


class UnauthenticatedError(MLOpsError):
    """Says what `tokens.InvalidTokenError` says, so that nobody can tell a dead session from a forged token."""

    def __init__(self) -> None:
        super().__init__("The access token is not valid. Log in again.")


@dataclass(frozen=True)
class Grant:
    """What a token answer is made of; `user.scopes` are those of this session."""

    user: User
    sid: str
    refresh_token: str = field(repr=False)


async def login(
    engine: Engine,
    name: str,
    password: str,
    peer: str,
    *,
    scopes: Iterable[str] = (),
    now: datetime | None = None,
) -> Grant:
    """A new session, for some of the user's scopes or, without `scopes`, for all that they have at any time.

    Raises InvalidCredentialsError, ThrottledError, HashingBusyError or ScopeNotGrantedError.
    """
    moment = now or utc_now()
    async with guarded(engine, login_counters(fold_name(name), peer), moment):
        seen = await asyncio.to_thread(find_record, engine, name=name)
        right = await verify_password(password, seen.password_hash if seen else None)
        if seen is None or not right or not seen.enabled:
            raise InvalidCredentialsError
        stronger = await hash_password(password) if needs_rehash(seen.password_hash) else None
        return await asyncio.to_thread(_open_session, engine, seen, stronger, set(scopes), moment)


def _open_session(engine: Engine, seen: UserRecord, stronger: str | None, scopes: set[str], now: datetime) -> Grant:
    with writing(engine) as session:
        user = session.get(UserRecord, seen.id, with_for_update=True)
        if user is None or user.token_version != seen.token_version:
            raise InvalidCredentialsError  # disabled, deleted or given another password in the meantime
        granted = scopes.intersection(user.scopes.split())
        if scopes and not granted:
            raise ScopeNotGrantedError
        if stronger and user.password_hash == seen.password_hash:
            user.password_hash = stronger
        _delete_old(session, user.id, now)
        family = secrets.token_bytes(FAMILY_BYTES)
        token = _make_token(family)
        record = SessionRecord(
            sid=str(uuid.uuid4()),
            user_id=user.id,
            scopes=" ".join(sorted(granted)) or None,
            family_hash=_digest(family),
            refresh_hash=_digest(token.encode()),
            generation=0,
            created_at=now,
            last_used_at=now,
        )
        session.add(record)
        return Grant(_narrowed(user, record), record.sid, token)


def refresh(engine: Engine, token: str, *, now: datetime | None = None) -> Grant:
    """The same session with the next refresh token. One that was used before ends the session: it was stolen."""
    with writing(engine) as session:  # ends before the error is raised, which would undo the revocation
        grant = _rotate(session, token, now or utc_now())
    if grant is None:
        raise InvalidRefreshTokenError
    return grant


def _rotate(session: Session, token: str, now: datetime) -> Grant | None:
    record = _lock_family(session, token)
    if record is None:
        return None
    if not hmac.compare_digest(record.refresh_hash, _digest(token.encode())):
        record.revoked_at = record.revoked_at or now
        return None
    user = session.get(UserRecord, record.user_id)
    if user is None or not user.enabled or not _is_alive(record, now):
        return None
    following = _make_token(_family_of(token))
    record.refresh_hash = _digest(following.encode())
    record.generation += 1
    record.last_used_at = now
    return Grant(_narrowed(user, record), record.sid, following)


def revoke(engine: Engine, token: str, *, now: datetime | None = None) -> None:
    """Ends the session of a refresh token, be it the newest or not; of an unknown one nothing is said (RFC 7009)."""
    with writing(engine) as session:
        record = _lock_family(session, token)
        if record is not None:
            record.revoked_at = record.revoked_at or now or utc_now()


def revoke_session(engine: Engine, sid: str, *, now: datetime | None = None) -> None:
    """Ends a session whose access token was shown; its other access tokens end with it."""
    living = (SessionRecord.sid == sid) & SessionRecord.revoked_at.is_(None)
    with writing(engine) as session:
        session.execute(update(SessionRecord).where(living).values(revoked_at=now or utc_now()))


def check_session(engine: Engine, sub: str, sid: str, ver: int, *, now: datetime | None = None) -> User:
    """The account as it is now behind the claims of a verified access token, with the scopes of its session."""
    if not (ID.fullmatch(sub) and ID.fullmatch(sid)):
        raise UnauthenticatedError
    both = select(UserRecord, SessionRecord).join(SessionRecord, SessionRecord.user_id == UserRecord.id)
    with reading(engine) as session:
        row = session.execute(both.where(UserRecord.id == sub, SessionRecord.sid == sid)).one_or_none()
    if row is None:
        raise UnauthenticatedError
    user, record = row
    if not user.enabled or user.token_version != ver or not _is_alive(record, now or utc_now()):
        raise UnauthenticatedError
    return _narrowed(user, record)


def _is_alive(record: SessionRecord, now: datetime) -> bool:
    is_fresh = now - record.last_used_at < IDLE_LIMIT and now - record.created_at < ABSOLUTE_LIMIT
    return record.revoked_at is None and is_fresh


def _narrowed(user: UserRecord, record: SessionRecord) -> User:
    account = user_of(user)
    if record.scopes is None:
        return account
    asked = record.scopes.split()
    return replace(account, scopes=tuple(scope for scope in account.scopes if scope in asked))


def _lock_family(session: Session, token: str) -> SessionRecord | None:
    if not TOKEN.fullmatch(token):
        return None
    family = _digest(_family_of(token))
    return session.scalar(select(SessionRecord).where(SessionRecord.family_hash == family).with_for_update())


def _delete_old(session: Session, user_id: str, now: datetime) -> None:
    """Sessions past the absolute limit, which nothing can revive."""
    is_over = SessionRecord.created_at <= now - ABSOLUTE_LIMIT
    session.execute(delete(SessionRecord).where(SessionRecord.user_id == user_id, is_over))


def _make_token(family: bytes) -> str:
    return base64.urlsafe_b64encode(family + secrets.token_bytes(FRESH_BYTES)).decode()


def _family_of(token: str) -> bytes:
    return base64.urlsafe_b64decode(token)[:FAMILY_BYTES]


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()
