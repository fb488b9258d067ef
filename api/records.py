"""The SQL rows of the accounts and of the prediction log, and the two kinds of transaction that touch accounts."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import DateTime, Dialect, Engine, ForeignKey, String, Text, TypeDecorator
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mlops_core import database
from mlops_core.errors import MLOpsError

NAME_LENGTH = 64
ID_LENGTH = 36
SCOPES_LENGTH = 100
HASH_LENGTH = 255
DIGEST_LENGTH = 64
BATCH_LENGTH = 32
KIND_LENGTH = 20


class AccountsUnavailableError(MLOpsError):
    """The database is down, locked, full or not migrated; whoever asked is refused, never let through."""

    def __init__(self) -> None:
        super().__init__("The accounts database does not answer. Try again later.")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment; SQLite stores no offset, so every moment is kept in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  SQLAlchemy's signature
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  SQLAlchemy's signature
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Record(DeclarativeBase):
    """Tables are named `mlops_…`, since MLflow keeps tables such as `users` and `jobs` in a database we may share."""


class UserRecord(Record):
    """`name` is folded; `scopes` is sorted and separated by spaces; `token_version` rises to end access tokens."""

    __tablename__ = "mlops_users"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    password_hash: Mapped[str] = mapped_column(String(HASH_LENGTH))
    scopes: Mapped[str] = mapped_column(String(SCOPES_LENGTH))
    enabled: Mapped[bool]
    token_version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    password_changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SessionRecord(Record):
    """One login and the family of its refresh tokens: digests of what they share and of the only valid one.

    `scopes` is what the login asked for; None means whatever the user has.
    """

    __tablename__ = "mlops_sessions"

    sid: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("mlops_users.id", ondelete="CASCADE"), index=True)
    scopes: Mapped[str | None] = mapped_column(String(SCOPES_LENGTH))
    family_hash: Mapped[str] = mapped_column(String(DIGEST_LENGTH), unique=True)
    refresh_hash: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    generation: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ThrottleRecord(Record):
    """How often someone failed since `first_at`; the key is a digest, so nothing that was typed is kept."""

    __tablename__ = "mlops_throttle"

    key: Mapped[str] = mapped_column(String(DIGEST_LENGTH + 16), primary_key=True)
    failures: Mapped[int]
    first_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    blocked_until: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PredictionRecord(Record):
    """One answered request: what came in as JSON columns, what went out as JSON rows. `batch` sorts by time."""

    __tablename__ = "mlops_predictions"

    batch: Mapped[str] = mapped_column(String(BATCH_LENGTH), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    user_id: Mapped[str] = mapped_column(String(ID_LENGTH))  # no foreign key: accounts may live in another database
    model: Mapped[str] = mapped_column(Text)
    version: Mapped[int]
    kind: Mapped[str] = mapped_column(String(KIND_LENGTH))
    rows: Mapped[int]
    inputs: Mapped[str] = mapped_column(Text)
    outputs: Mapped[str] = mapped_column(Text)


class OutcomeRecord(Record):
    """What came of one row of a request: the truth as JSON, who told it, and when."""

    __tablename__ = "mlops_outcomes"

    batch: Mapped[str] = mapped_column(ForeignKey("mlops_predictions.batch", ondelete="CASCADE"), primary_key=True)
    row: Mapped[int] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    user_id: Mapped[str] = mapped_column(String(ID_LENGTH))


def utc_now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def database_errors(unavailable: type[MLOpsError] = AccountsUnavailableError) -> Iterator[None]:
    """Everything the database may say becomes `unavailable`, except that our own values do not fit."""
    try:
        yield
    except (IntegrityError, DataError):
        raise
    except (DatabaseError, InterfaceError, PoolTimeoutError) as error:
        raise unavailable from error


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """Commits at the end, rolls back on any exception. Nothing slow belongs inside: on SQLite it is the only writer."""
    with database_errors(), Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    with database_errors(), Session(database.reading(engine), expire_on_commit=False) as session, session.begin():
        yield session
