"""Slows down guessing: counts attempts per account and per peer in the database, so for all processes alike.

An attempt counts before its password is looked at, or a hundred at once would all pass the limit; one that turns
out well is given back. A block lasts 15 minutes whatever happens meanwhile: strangers can't lock anyone out for good.

MLOpsError
├── ThrottledError       come back later
└── FailedAttemptError   base of what a wrong password raises
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil

from sqlalchemy import Engine, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from api.records import ThrottleRecord, writing
from mlops_core.errors import MLOpsError

WINDOW = timedelta(minutes=15)
ACCOUNT_FAILURES = 5
PEER_FAILURES = 30  # colleagues behind one address share it
IPV6_PREFIX = 64  # whoever has one address has all of these
EXPIRED_AT_ONCE = 100


class FailedAttemptError(MLOpsError):
    """Whoever raises a subclass has seen a wrong password."""


class ThrottledError(MLOpsError):
    """Raised whether or not the account exists and the password is right."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"Too many failed attempts. Try again in {retry_after} seconds.")


@dataclass(frozen=True)
class Counter:
    """What is counted, and how many failures are free."""

    key: str
    allowed: int
    resets: bool = True  # by a success


def login_counters(name: str, peer: str) -> list[Counter]:
    """Always in this order, in which their rows are locked."""
    return [_counter("account", name, ACCOUNT_FAILURES), _counter("peer", _network(peer), PEER_FAILURES, resets=False)]


def change_counters(user_id: str) -> list[Counter]:
    """For who guesses the current password with a stolen access token; apart from logging in, which stays possible."""
    return [_counter("change", user_id, ACCOUNT_FAILURES)]


@asynccontextmanager
async def guarded(engine: Engine, counters: Sequence[Counter], now: datetime) -> AsyncIterator[None]:
    """Around one try at a password: raises ThrottledError instead of entering while blocked.

    A FailedAttemptError from inside counts and, past the limit, becomes a ThrottledError; no other exception counts.
    """
    retry_after = await asyncio.to_thread(count_attempt, engine, counters, now)
    try:
        yield
    except FailedAttemptError:
        if retry_after:
            raise ThrottledError(retry_after) from None
        raise
    except Exception:
        await asyncio.to_thread(give_back, engine, counters)
        raise
    await asyncio.to_thread(give_back, engine, counters, succeeded=True)


def count_attempt(engine: Engine, counters: Sequence[Counter], now: datetime) -> int:
    """Raises ThrottledError while blocked. Else the seconds of the block that a failure now leads to, or 0."""
    with writing(engine) as session:
        retry_after = max(_count(session, counter, now) for counter in counters)
        _delete_expired(session, now)
    return retry_after


def give_back(engine: Engine, counters: Sequence[Counter], *, succeeded: bool = False) -> None:
    """Takes one attempt out again; after a success an account starts anew, while a peer only gets this one back.

    Otherwise a guesser would log in to an account of their own now and then.
    """
    with writing(engine) as session:
        for counter in counters:
            record = session.get(ThrottleRecord, counter.key, with_for_update=True)
            if record is None:
                continue
            record.failures = 0 if succeeded and counter.resets else max(0, record.failures - 1)
            if record.failures <= counter.allowed:
                record.blocked_until = None


def _count(session: Session, counter: Counter, now: datetime) -> int:
    record = _locked_record(session, counter.key, now)
    if record.blocked_until and now < record.blocked_until:
        raise ThrottledError(max(1, ceil((record.blocked_until - now).total_seconds())))
    if record.blocked_until or now - record.first_at >= WINDOW:
        record.failures, record.first_at, record.blocked_until = 0, now, None
    record.failures += 1
    if record.failures <= counter.allowed:
        return 0
    record.blocked_until = now + WINDOW
    return ceil(WINDOW.total_seconds())


def _locked_record(session: Session, key: str, now: datetime) -> ThrottleRecord:
    """The row of this key, made if need be, in one statement: between two another process could delete it."""
    values = {"key": key, "failures": 0, "first_at": now}
    unchanged = {"key": key}
    if session.get_bind().dialect.name == "postgresql":
        upsert = (
            postgresql.insert(ThrottleRecord)
            .values(values)
            .on_conflict_do_update(index_elements=["key"], set_=unchanged)
        )
        return session.scalars(upsert.returning(ThrottleRecord)).one()
    statement = (
        sqlite.insert(ThrottleRecord).values(values).on_conflict_do_update(index_elements=["key"], set_=unchanged)
    )
    return session.scalars(statement.returning(ThrottleRecord)).one()


def _delete_expired(session: Session, now: datetime) -> None:
    """Rows that another transaction holds are left to it: waiting for them could end in a deadlock."""
    expired = select(ThrottleRecord.key).where(ThrottleRecord.first_at < now - 2 * WINDOW)
    batch = expired.limit(EXPIRED_AT_ONCE).with_for_update(skip_locked=True)
    session.execute(delete(ThrottleRecord).where(ThrottleRecord.key.in_(batch)))


def _counter(kind: str, what: str, allowed: int, *, resets: bool = True) -> Counter:
    digest = hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()
    return Counter(f"{kind}:{digest}", allowed, resets)


def _network(peer: str) -> str:
    try:
        address = ip_address(peer)
    except ValueError:
        return peer
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ip_network((int(address), IPV6_PREFIX), strict=False))
    return str(address)
