"""Accounts: who exists, what they may do, and that one enabled admin always remains.

MLOpsError
├── WrongPasswordError     a FailedAttemptError: the current password, when it is changed
├── LastAdminError         nobody would be left to manage accounts
├── UnknownUserError       a RequestError, as are all below
├── UserNameError
├── NameTakenError
├── ScopeError
└── PageLimitError

What hashes a password is a coroutine; the rest blocks for a moment and belongs in a thread.
"""

import asyncio
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, Select, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.passwords import check_policy, hash_password, verify_password
from api.records import NAME_LENGTH, SessionRecord, UserRecord, reading, utc_now, writing
from api.throttle import FailedAttemptError, change_counters, give_back, guarded, login_counters
from mlops_core.errors import MLOpsError, RequestError, did_you_mean

ADMIN = "admin"
SCOPES = ("predict", "monitor", ADMIN)
NAME = re.compile(rf"[a-z0-9][a-z0-9._@+-]{{0,{NAME_LENGTH - 1}}}")
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MAX_PAGE = 100


class UserNameError(RequestError):
    def __init__(self) -> None:
        super().__init__(
            f"A user name has 1 to {NAME_LENGTH} of the characters a-z 0-9 . _ @ + - and starts with a letter or digit."
        )


class NameTakenError(RequestError):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"There is a user '{name}' already. Choose another name.")


class UnknownUserError(RequestError):
    def __init__(self) -> None:
        super().__init__("There is no such user. List the users to see who there is.")


class ScopeError(RequestError):
    def __init__(self, scope: str) -> None:
        self.scope = scope
        super().__init__(f"There is no scope '{scope}'. {did_you_mean(scope, SCOPES)}")


class PageLimitError(RequestError):
    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"A page has 1 to {MAX_PAGE} users, not {limit}.")


class LastAdminError(MLOpsError):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"'{name}' is the last enabled admin. Make another admin first.")


class WrongPasswordError(FailedAttemptError):
    def __init__(self) -> None:
        super().__init__("The current password is wrong.")


@dataclass(frozen=True)
class User:
    """An account as everybody else sees it: without the hash of its password."""

    id: str
    name: str
    scopes: tuple[str, ...]
    enabled: bool
    token_version: int
    created_at: datetime
    password_changed_at: datetime


def user_of(record: UserRecord) -> User:
    return User(
        id=record.id,
        name=record.name,
        scopes=tuple(record.scopes.split()),
        enabled=record.enabled,
        token_version=record.token_version,
        created_at=record.created_at,
        password_changed_at=record.password_changed_at,
    )


def fold_name(name: str) -> str:
    """Names that differ in case are one. ASCII only is folded: look-alikes such as the Kelvin sign would become k."""
    return name.lower() if name.isascii() else name


def clean_scopes(scopes: Iterable[str]) -> str:
    wanted = set(scopes)
    for scope in sorted(wanted.difference(SCOPES)):
        raise ScopeError(scope)
    return " ".join(sorted(wanted))


async def create_user(
    engine: Engine, name: str, password: str, scopes: Iterable[str], *, now: datetime | None = None
) -> User:
    folded, kept = fold_name(name), clean_scopes(scopes)
    if not NAME.fullmatch(folded):
        raise UserNameError
    check_policy(folded, password)
    moment = now or utc_now()
    record = UserRecord(
        id=str(uuid.uuid4()),
        name=folded,
        password_hash=await hash_password(password),
        scopes=kept,
        enabled=True,
        token_version=0,
        created_at=moment,
        password_changed_at=moment,
    )
    return await asyncio.to_thread(_insert, engine, record)


def _insert(engine: Engine, record: UserRecord) -> User:
    user = user_of(record)
    try:
        with writing(engine) as session:
            session.add(record)
    except IntegrityError:
        raise NameTakenError(user.name) from None
    return user


def find_record(engine: Engine, *, user_id: str = "", name: str = "") -> UserRecord | None:
    """The row, detached, hash included; for the modules of this store only."""
    folded = fold_name(name)
    if not (ID.fullmatch(user_id) or NAME.fullmatch(folded)):
        return None  # PostgreSQL refuses NUL and lone surrogates with errors of its own
    with reading(engine) as session:
        return session.scalar(select(UserRecord).where(or_(UserRecord.id == user_id, UserRecord.name == folded)))


def get_user(engine: Engine, user_id: str) -> User | None:
    record = find_record(engine, user_id=user_id)
    return user_of(record) if record else None


def get_user_named(engine: Engine, name: str) -> User | None:
    record = find_record(engine, name=name)
    return user_of(record) if record else None


def require_user_named(engine: Engine, name: str) -> User:
    user = get_user_named(engine, name)
    if user is None:
        raise UnknownUserError
    return user


def list_users(engine: Engine, *, limit: int = MAX_PAGE, after: str = "") -> list[User]:
    """At most `limit` users in the order of their names, beginning behind the name `after`."""
    if not 1 <= limit <= MAX_PAGE:
        raise PageLimitError(limit)
    folded = fold_name(after)
    if folded and not NAME.fullmatch(folded):
        raise UserNameError
    page = select(UserRecord).where(UserRecord.name > folded).order_by(UserRecord.name).limit(limit)
    with reading(engine) as session:
        return [user_of(record) for record in session.scalars(page)]


def has_admin(engine: Engine) -> bool:
    """Whether anyone can manage accounts; asked before the first one is made."""
    with reading(engine) as session:
        return session.scalar(_enabled_admins().limit(1)) is not None


async def change_password(engine: Engine, user_id: str, current: str, new: str, *, now: datetime | None = None) -> User:
    """Ends every session of the user. Raises PasswordPolicyError, WrongPasswordError or ThrottledError."""
    moment = now or utc_now()
    async with guarded(engine, change_counters(user_id), moment):
        record = await asyncio.to_thread(find_record, engine, user_id=user_id)
        if record is None:
            raise UnknownUserError
        check_policy(record.name, new)
        if not await verify_password(current, record.password_hash):
            raise WrongPasswordError
        return await asyncio.to_thread(_replace_password, engine, record, await hash_password(new), moment)


def _replace_password(engine: Engine, seen: UserRecord, password_hash: str, now: datetime) -> User:
    with writing(engine) as session:
        record = session.get(UserRecord, seen.id, with_for_update=True)
        if record is None or record.token_version != seen.token_version:
            raise WrongPasswordError  # another change was faster
        return _give_password(session, record, password_hash, now)


def _give_password(session: Session, record: UserRecord, password_hash: str, now: datetime) -> User:
    record.password_hash, record.password_changed_at = password_hash, now
    _end_all(session, record, now)
    return user_of(record)


async def reset_password(engine: Engine, user: User, new: str, *, now: datetime | None = None) -> User:
    """For an operator, who need not know the old one. Ends every session, and a block that guessing led to."""
    check_policy(user.name, new)
    return await asyncio.to_thread(_reset, engine, user, await hash_password(new), now or utc_now())


def _reset(engine: Engine, user: User, password_hash: str, now: datetime) -> User:
    with writing(engine) as session:
        changed = _give_password(session, _lock_for_change(session, user.id, keeps_admin=True), password_hash, now)
    give_back(engine, [*login_counters(user.name, ""), *change_counters(user.id)], succeeded=True)
    return changed


def change_user(
    engine: Engine,
    user_id: str,
    *,
    scopes: Iterable[str] | None = None,
    enabled: bool | None = None,
    now: datetime | None = None,
) -> User:
    """Both or nothing; what is None stays. Acts at once, on living sessions too.

    Disabling ends every session; enabling again revives none.
    """
    kept = None if scopes is None else clean_scopes(scopes)
    with writing(engine) as session:
        keeps_admin = enabled is not False and (kept is None or ADMIN in kept)
        record = _lock_for_change(session, user_id, keeps_admin=keeps_admin)
        if record.enabled and enabled is False:
            _end_all(session, record, now or utc_now())
        record.enabled = record.enabled if enabled is None else enabled
        record.scopes = record.scopes if kept is None else kept
        return user_of(record)


def delete_user(engine: Engine, user_id: str) -> None:
    with writing(engine) as session:
        session.delete(_lock_for_change(session, user_id, keeps_admin=False))


def end_sessions(engine: Engine, user_id: str, *, now: datetime | None = None) -> None:
    """Logs the user out everywhere."""
    with writing(engine) as session:
        _end_all(session, _lock_for_change(session, user_id, keeps_admin=True), now or utc_now())


def _lock_for_change(session: Session, user_id: str, *, keeps_admin: bool) -> UserRecord:
    """The locked row. Every enabled admin is locked before it, so that two can't remove each other at one time."""
    admins = session.scalars(_enabled_admins().with_for_update()).all()
    record = session.get(UserRecord, user_id, with_for_update=True) if ID.fullmatch(user_id) else None
    if record is None:
        raise UnknownUserError
    if not keeps_admin and [admin.id for admin in admins] == [user_id]:
        raise LastAdminError(record.name)
    return record


def _enabled_admins() -> Select[UserRecord]:
    is_admin = UserRecord.scopes.contains(ADMIN)
    return select(UserRecord).where(UserRecord.enabled, is_admin).order_by(UserRecord.id)


def _end_all(session: Session, record: UserRecord, now: datetime) -> None:
    record.token_version += 1
    alive = (SessionRecord.user_id == record.id) & SessionRecord.revoked_at.is_(None)
    session.execute(update(SessionRecord).where(alive).values(revoked_at=now))
