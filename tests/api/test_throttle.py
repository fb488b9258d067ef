import asyncio
from asyncio import run
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from api import passwords
from api.accounts import User, change_user, create_user
from api.passwords import HashingBusyError
from api.sessions import InvalidCredentialsError, login
from api.throttle import ACCOUNT_FAILURES, PEER_FAILURES, WINDOW, ThrottledError, count_attempt, login_counters

NOW = datetime(2013, 7, 1, 12, tzinfo=UTC)
PASSWORD = "Kerosin, Kaffee & Kabine"
WRONG = "Gepäckband Nummer Sieben"
PEER = "192.0.2.1"


@pytest.fixture
def alice(engine: Engine) -> User:
    return run(create_user(engine, "alice", PASSWORD, ["predict"], now=NOW))


def attempt(
    engine: Engine, password: str = WRONG, *, name: str = "alice", peer: str = PEER, after: timedelta = timedelta()
) -> str:
    try:
        run(login(engine, name, password, peer, now=NOW + after))
    except (InvalidCredentialsError, ThrottledError) as error:
        return type(error).__name__
    return "in"


def fail(engine: Engine, times: int = ACCOUNT_FAILURES, **how: str) -> None:
    assert [attempt(engine, **how) for _ in range(times)] == ["InvalidCredentialsError"] * times


@pytest.mark.parametrize("case", ["known", "unknown", "disabled"])
def test_the_sixth_failure_blocks_any_name_alike(engine: Engine, alice: User, case: str) -> None:
    if case == "disabled":
        change_user(engine, alice.id, enabled=False)
    name = "nobody" if case == "unknown" else "alice"
    fail(engine, name=name)
    assert attempt(engine, name=name) == "ThrottledError"
    assert attempt(engine, PASSWORD, name=name) == "ThrottledError"


def test_during_a_block_the_right_password_is_refused_without_a_look(
    engine: Engine, alice: User, argon2_calls: list[str]
) -> None:
    fail(engine)
    attempt(engine)
    argon2_calls.clear()
    for password in (WRONG, PASSWORD):
        with pytest.raises(ThrottledError) as caught:
            run(login(engine, "ALICE", password, PEER, now=NOW + timedelta(seconds=0.5)))
        assert caught.value.retry_after == 900
    assert argon2_calls == []


def test_the_sixth_attempt_with_the_right_password_is_let_in(engine: Engine, alice: User) -> None:
    fail(engine)
    assert attempt(engine, PASSWORD) == "in"
    fail(engine)
    assert attempt(engine) == "ThrottledError"


def test_a_block_ends_after_15_minutes_however_often_someone_tries(engine: Engine, alice: User) -> None:
    fail(engine)
    attempt(engine)
    for minute in range(15):
        assert attempt(engine, after=timedelta(minutes=minute)) == "ThrottledError"
    with pytest.raises(ThrottledError) as caught:
        run(login(engine, "alice", PASSWORD, PEER, now=NOW + WINDOW - timedelta(seconds=0.5)))
    assert caught.value.retry_after == 1
    assert attempt(engine, PASSWORD, after=WINDOW) == "in"


def test_failures_are_forgotten_after_the_window(engine: Engine, alice: User) -> None:
    fail(engine)
    for _ in range(ACCOUNT_FAILURES):
        assert attempt(engine, after=WINDOW) == "InvalidCredentialsError"
    assert attempt(engine, after=WINDOW + timedelta(minutes=14)) == "ThrottledError"


def test_another_account_works_while_one_is_blocked(engine: Engine, alice: User) -> None:
    run(create_user(engine, "bob", PASSWORD, [], now=NOW))
    fail(engine)
    assert attempt(engine) == "ThrottledError"
    assert attempt(engine, PASSWORD, name="bob") == "in"


def test_another_peer_does_not_escape_the_block_of_an_account(engine: Engine, alice: User) -> None:
    for number in range(ACCOUNT_FAILURES):
        assert attempt(engine, peer=f"198.51.100.{number}") == "InvalidCredentialsError"
    assert attempt(engine, peer="198.51.100.99") == "ThrottledError"
    assert attempt(engine, PASSWORD, peer="203.0.113.7") == "ThrottledError"


def test_a_peer_that_sprays_many_names_is_blocked_and_others_are_not(engine: Engine, alice: User) -> None:
    for number in range(PEER_FAILURES):
        assert attempt(engine, name=f"user{number}") == "InvalidCredentialsError"
    assert attempt(engine, name="one-more") == "ThrottledError"
    assert attempt(engine, PASSWORD) == "ThrottledError"
    assert attempt(engine, PASSWORD, peer="192.0.2.2") == "in"
    assert attempt(engine, PASSWORD, after=WINDOW) == "in"


def test_a_success_of_ones_own_does_not_reset_a_peer(engine: Engine, alice: User) -> None:
    run(create_user(engine, "mallory", PASSWORD, [], now=NOW))
    for number in range(PEER_FAILURES):
        assert attempt(engine, name=f"user{number}") == "InvalidCredentialsError"
        if number % 4 == 0:
            assert attempt(engine, PASSWORD, name="mallory") == "in"
    assert attempt(engine, name="one-more") == "ThrottledError"


def test_a_blocked_peer_does_not_use_up_the_attempts_of_an_account(engine: Engine, alice: User) -> None:
    for number in range(PEER_FAILURES + 1):
        attempt(engine, name=f"user{number}")
    for _ in range(10):
        assert attempt(engine) == "ThrottledError"
    assert attempt(engine, peer="192.0.2.2") == "InvalidCredentialsError"


def test_a_thousand_honest_logins_are_no_attack(engine: Engine, alice: User) -> None:
    assert {attempt(engine, PASSWORD) for _ in range(2 * PEER_FAILURES)} == {"in"}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("testclient", "testclient", True),
        ("", "testclient", False),
    ],
)
def test_a_peer_is_an_ipv4_address_or_an_ipv6_network(first: str, second: str, same: bool) -> None:
    assert (login_counters("alice", first) == login_counters("alice", second)) is same


def test_guesses_at_the_same_moment_can_not_slip_through_together(
    engine: Engine, alice: User, argon2_calls: list[str]
) -> None:
    async def storm() -> list[BaseException | object]:
        work = [login(engine, "alice", WRONG, PEER, now=NOW) for _ in range(20)]
        return await asyncio.gather(*work, return_exceptions=True)

    argon2_calls.clear()
    outcomes = Counter(type(outcome).__name__ for outcome in run(storm()))
    assert outcomes == {"InvalidCredentialsError": ACCOUNT_FAILURES, "ThrottledError": 20 - ACCOUNT_FAILURES}
    assert len(argon2_calls) == ACCOUNT_FAILURES + 1


def test_many_accounts_and_peers_at_once_do_not_deadlock(engine: Engine) -> None:
    async def storm() -> list[object]:
        work = [
            login(engine, f"user{number % 5}", WRONG, f"192.0.2.{number % 3}", now=NOW + WINDOW * (number // 10) * 3)
            for number in range(30)
        ]
        return await asyncio.gather(*work, return_exceptions=True)

    assert {type(outcome) for outcome in run(storm())} <= {InvalidCredentialsError, ThrottledError}


def test_being_turned_away_because_the_server_is_busy_is_no_failure(
    engine: Engine, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(password: str, password_hash: str | None) -> bool:
        raise HashingBusyError

    with monkeypatch.context() as patch:
        patch.setattr("api.sessions.verify_password", busy)
        for _ in range(2 * PEER_FAILURES):
            with pytest.raises(HashingBusyError):
                run(login(engine, "alice", PASSWORD, PEER, now=NOW))
    fail(engine)


def test_old_counters_are_deleted_and_live_blocks_are_kept(engine: Engine) -> None:
    for number in range(20):
        count_attempt(engine, login_counters(f"user{number}", f"192.0.2.{number}"), NOW)
    for _ in range(6):
        count_attempt(engine, login_counters("blocked", PEER), NOW + WINDOW * 1.5)
    late = NOW + WINDOW * 2.1
    count_attempt(engine, login_counters("late", "192.0.2.200"), late)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM mlops_throttle")).scalar() == 4
    with pytest.raises(ThrottledError):
        count_attempt(engine, login_counters("blocked", PEER), late)


def test_the_table_shows_neither_names_nor_addresses(engine: Engine) -> None:
    count_attempt(engine, login_counters("a password typed as a name \0\ud800", PEER), NOW)
    with engine.connect() as connection:
        rows = str(connection.execute(text("SELECT * FROM mlops_throttle")).all())
    assert "typed" not in rows
    assert PEER not in rows


def test_the_semaphore_is_as_free_as_before(engine: Engine, alice: User) -> None:
    fail(engine, 3)
    assert passwords._places._value == passwords.MAX_WAITING
