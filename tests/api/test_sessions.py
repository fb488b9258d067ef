import asyncio
import base64
import hashlib
import re
from asyncio import run
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import Engine, text

from api import passwords
from api.accounts import User, change_user, create_user
from api.sessions import (
    ABSOLUTE_LIMIT,
    IDLE_LIMIT,
    Grant,
    InvalidCredentialsError,
    InvalidRefreshTokenError,
    ScopeNotGrantedError,
    UnauthenticatedError,
    check_session,
    login,
    refresh,
    revoke,
    revoke_session,
)
from api.throttle import ThrottledError
from api.tokens import InvalidTokenError
from mlops_core.errors import MLOpsError

NOW = datetime(2013, 7, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PASSWORD = "Kerosin, Kaffee & Kabine"
WRONG = "Gepäckband Nummer Sieben"
PEER = "192.0.2.1"


@pytest.fixture
def alice(engine: Engine) -> User:
    return run(create_user(engine, "alice", PASSWORD, ["predict", "monitor"], now=NOW))


def log_in(
    engine: Engine,
    name: str = "alice",
    password: str = PASSWORD,
    *,
    scopes: Iterable[str] = (),
    now: datetime = NOW,
) -> Grant:
    return run(login(engine, name, password, PEER, scopes=scopes, now=now))


def is_living(engine: Engine, grant: Grant, now: datetime = NOW) -> bool:
    try:
        check_session(engine, grant.user.id, grant.sid, grant.user.token_version, now=now)
    except UnauthenticatedError:
        return False
    return True


def all_text(engine: Engine) -> str:
    tables = ("mlops_users", "mlops_sessions", "mlops_throttle")
    with engine.connect() as connection:
        return str([connection.execute(text(f"SELECT * FROM {table}")).all() for table in tables])


def test_each_login_is_a_session_of_its_own(engine: Engine, alice: User) -> None:
    first, second = log_in(engine), log_in(engine, "ALICE")
    assert first.user == second.user == alice
    assert first.sid != second.sid
    assert check_session(engine, alice.id, first.sid, alice.token_version, now=NOW) == alice
    revoke_session(engine, first.sid, now=NOW)
    assert not is_living(engine, first)
    assert is_living(engine, second)


def test_a_refresh_token_is_opaque_and_the_database_knows_digests_only(engine: Engine, alice: User) -> None:
    grant = log_in(engine)
    assert re.fullmatch(r"[A-Za-z0-9_-]{64}", grant.refresh_token)
    assert grant.refresh_token not in repr(grant)
    kept = all_text(engine)
    assert hashlib.sha256(grant.refresh_token.encode()).hexdigest() in kept
    for secret in (grant.refresh_token, grant.refresh_token[:21], grant.refresh_token[22:], PASSWORD):
        assert secret not in kept


@pytest.mark.parametrize("case", ["unknown", "wrong", "disabled", "disabled and wrong", "hostile name"])
def test_unknown_wrong_and_disabled_are_one_answer_for_one_price(
    engine: Engine, alice: User, case: str, argon2_calls: list[str]
) -> None:
    if "disabled" in case:
        change_user(engine, alice.id, enabled=False)
    name = {"unknown": "nobody", "hostile name": "\0\ud800' OR 1=1 --"}.get(case, "alice")
    argon2_calls.clear()
    with pytest.raises(InvalidCredentialsError) as caught:
        log_in(engine, name, WRONG if "wrong" in case else PASSWORD)
    assert str(caught.value) == "The user name or the password is wrong."
    assert len(argon2_calls) == 1


def test_a_right_password_costs_one_argon2_too(engine: Engine, alice: User, argon2_calls: list[str]) -> None:
    log_in(engine)
    assert argon2_calls == ["verify"]


@pytest.mark.parametrize("password", ["", "\ud800", "a\0" * 9, PASSWORD.upper(), PASSWORD + " ", "x" * 100_000])
def test_another_password_is_wrong_whatever_it_holds(engine: Engine, alice: User, password: str) -> None:
    with pytest.raises(InvalidCredentialsError):
        log_in(engine, password=password)


def test_a_hash_with_old_parameters_is_renewed_by_the_next_login(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = passwords.HASHER
    monkeypatch.setattr(
        passwords, "HASHER", PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1, hash_len=16),))
    )
    user = run(create_user(engine, "alice", PASSWORD, [], now=NOW))
    old = stored_hash(engine)
    monkeypatch.setattr(passwords, "HASHER", current)
    with pytest.raises(InvalidCredentialsError):
        log_in(engine, password=WRONG)
    assert stored_hash(engine) == old

    async def both() -> list[Grant]:
        return await asyncio.gather(*[login(engine, "alice", PASSWORD, PEER, now=NOW) for _ in range(2)])

    assert [grant.user for grant in run(both())] == [user, user]  # neither is refused for the other's new hash
    renewed = stored_hash(engine)
    assert not passwords.needs_rehash(renewed)
    log_in(engine)
    assert stored_hash(engine) == renewed


def stored_hash(engine: Engine) -> str:
    with engine.connect() as connection:
        return connection.execute(text("SELECT password_hash FROM mlops_users")).scalar_one()


def test_a_login_for_some_scopes_keeps_to_them(engine: Engine, alice: User) -> None:
    grant = log_in(engine, scopes=["predict", "admin", "a\0"])
    assert grant.user.scopes == ("predict",)
    following = refresh(engine, grant.refresh_token, now=NOW)
    assert following.user.scopes == ("predict",)
    assert check_session(engine, alice.id, grant.sid, 0, now=NOW).scopes == ("predict",)
    change_user(engine, alice.id, scopes=["monitor"])
    assert check_session(engine, alice.id, grant.sid, 0, now=NOW).scopes == ()


def test_a_login_for_foreign_scopes_is_refused_without_counting_as_a_failure(engine: Engine, alice: User) -> None:
    for _ in range(8):
        with pytest.raises(ScopeNotGrantedError):
            log_in(engine, scopes=["admin"])
    assert log_in(engine).user == alice


def test_refreshing_goes_on_and_on(engine: Engine, alice: User) -> None:
    grant = log_in(engine)
    tokens = {grant.refresh_token}
    for day in range(1, 11):
        following = refresh(engine, grant.refresh_token, now=NOW + timedelta(days=day))
        assert (following.sid, following.user) == (grant.sid, alice)
        grant = following
        tokens.add(grant.refresh_token)
    assert len(tokens) == 11
    with engine.connect() as connection:
        assert connection.execute(text("SELECT generation FROM mlops_sessions")).all() == [(10,)]


@pytest.mark.parametrize("age", [0, 1, 3])
def test_an_older_refresh_token_ends_its_family_and_no_other(engine: Engine, alice: User, age: int) -> None:
    bystander = log_in(engine)
    grants = [log_in(engine)]
    for _ in range(4):
        grants.append(refresh(engine, grants[-1].refresh_token, now=NOW))
    with pytest.raises(InvalidRefreshTokenError):
        refresh(engine, grants[age].refresh_token, now=NOW)
    for grant in grants:
        with pytest.raises(InvalidRefreshTokenError):
            refresh(engine, grant.refresh_token, now=NOW)
        assert not is_living(engine, grant)
    assert is_living(engine, bystander)
    refresh(engine, bystander.refresh_token, now=NOW)


def test_of_two_refreshes_at_once_one_wins_and_the_family_ends(engine: Engine, alice: User) -> None:
    async def both(token: str) -> list[Grant | BaseException]:
        work = [asyncio.to_thread(refresh, engine, token, now=NOW) for _ in range(2)]
        return await asyncio.gather(*work, return_exceptions=True)

    for _ in range(10):
        grant = log_in(engine)
        outcomes = run(both(grant.refresh_token))
        won = [outcome for outcome in outcomes if isinstance(outcome, Grant)]
        lost = [outcome for outcome in outcomes if isinstance(outcome, InvalidRefreshTokenError)]
        assert (len(won), len(lost)) == (1, 1)
        assert not is_living(engine, won[0])
        with pytest.raises(InvalidRefreshTokenError):
            refresh(engine, won[0].refresh_token, now=NOW)


@pytest.mark.parametrize(
    ("used", "asked", "living"),
    [
        ([], IDLE_LIMIT - SECOND, True),
        ([], IDLE_LIMIT, False),
        ([IDLE_LIMIT - SECOND], 2 * IDLE_LIMIT - 2 * SECOND, True),
        ([timedelta(days=6) * step for step in range(1, 5)], ABSOLUTE_LIMIT - SECOND, True),
        ([timedelta(days=6) * step for step in range(1, 5)], ABSOLUTE_LIMIT, False),
    ],
)
def test_a_session_ends_when_idle_and_at_the_latest_after_its_limit(
    engine: Engine, alice: User, used: list[timedelta], asked: timedelta, living: bool
) -> None:
    grant = log_in(engine)
    for after in used:
        grant = refresh(engine, grant.refresh_token, now=NOW + after)
    assert is_living(engine, grant, NOW + asked) is living
    if living:
        refresh(engine, grant.refresh_token, now=NOW + asked)
    else:
        with pytest.raises(InvalidRefreshTokenError):
            refresh(engine, grant.refresh_token, now=NOW + asked)


def test_a_login_clears_the_users_sessions_that_are_over(engine: Engine, alice: User) -> None:
    log_in(engine)
    log_in(engine, now=NOW + timedelta(days=1))
    log_in(engine, now=NOW + ABSOLUTE_LIMIT)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM mlops_sessions")).scalar() == 2


BAD_TOKENS = [
    "",
    "x",
    "A" * 63,
    "A" * 64,
    "A" * 65,
    "ä" * 64,
    "A" * 63 + "=",
    "A" * 63 + "\n",
    "A" * 63 + "\0",
    "\ud800" * 64,
    "A" * 1_000_000,
    "e30.e30.AAAA",
]


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_a_made_up_token_refreshes_nothing_and_revokes_nothing(engine: Engine, alice: User, token: str) -> None:
    grant = log_in(engine)
    with pytest.raises(InvalidRefreshTokenError):
        refresh(engine, token, now=NOW)
    revoke(engine, token, now=NOW)
    assert is_living(engine, grant)


def test_a_sid_is_no_key_to_a_family(engine: Engine, alice: User) -> None:
    grant = log_in(engine)
    guess = base64.urlsafe_b64encode(bytes.fromhex(grant.sid.replace("-", "")) + bytes(32)).decode()
    revoke(engine, guess, now=NOW)
    assert is_living(engine, grant)


@pytest.mark.parametrize("newest", [True, False])
def test_revoking_ends_the_session_at_once_and_again_is_fine(engine: Engine, alice: User, newest: bool) -> None:
    grant = log_in(engine)
    following = refresh(engine, grant.refresh_token, now=NOW)
    for _ in range(2):
        revoke(engine, (following if newest else grant).refresh_token, now=NOW)
        assert not is_living(engine, following)
    with pytest.raises(InvalidRefreshTokenError):
        refresh(engine, following.refresh_token, now=NOW)


@pytest.mark.parametrize("sid", ["", "nobody", "00000000-0000-4000-8000-000000000000"])
def test_revoking_an_unknown_session_is_fine(engine: Engine, alice: User, sid: str) -> None:
    grant = log_in(engine)
    revoke_session(engine, sid, now=NOW)
    assert is_living(engine, grant)


def test_a_claim_that_does_not_fit_is_unauthenticated(engine: Engine, alice: User) -> None:
    bob = run(create_user(engine, "bob", PASSWORD, ["admin"], now=NOW))
    grant, foreign = log_in(engine), log_in(engine, "bob")
    good = (alice.id, grant.sid, 0)
    assert check_session(engine, *good, now=NOW) == alice
    for sub, sid, ver in (
        (bob.id, grant.sid, 0),
        (alice.id, foreign.sid, 0),
        (alice.id, grant.sid, 1),
        (alice.id, grant.sid, -1),
        (alice.id, grant.sid, 10**30),
        ("", grant.sid, 0),
        ("alice", grant.sid, 0),
        ("a\0", grant.sid, 0),
        (alice.id, "\ud800", 0),
        (alice.id.upper(), grant.sid, 0),
    ):
        with pytest.raises(UnauthenticatedError) as caught:
            check_session(engine, sub, sid, ver, now=NOW)
        assert str(caught.value) == str(InvalidTokenError())


def test_a_user_disabled_while_their_password_is_checked_gets_no_session(
    engine: Engine, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(password: str, password_hash: str | None) -> bool:
        change_user(engine, alice.id, enabled=False)
        change_user(engine, alice.id, enabled=True)
        return True

    monkeypatch.setattr("api.sessions.verify_password", slow)
    with pytest.raises(InvalidCredentialsError):
        log_in(engine)


def test_errors_hold_no_secret(engine: Engine, alice: User) -> None:
    for call in (lambda: log_in(engine, password="canary" * 5), lambda: refresh(engine, "canary" * 10 + "xxxx")):
        with pytest.raises(MLOpsError) as caught:
            call()
        assert "canary" not in f"{caught.value!r} {caught.value.__cause__!r} {vars(caught.value)}"


def test_a_throttled_login_opens_nothing(engine: Engine, alice: User) -> None:
    for _ in range(6):
        with pytest.raises((InvalidCredentialsError, ThrottledError)):
            log_in(engine, password=WRONG)
    with pytest.raises(ThrottledError):
        log_in(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM mlops_sessions")).scalar() == 0
