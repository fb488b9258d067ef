import asyncio
import threading
import unicodedata
from asyncio import run

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from api import passwords
from api.passwords import (
    COMMON,
    HASHING_THREADS,
    MAX_WAITING,
    MIN_LENGTH,
    HashingBusyError,
    PasswordPolicyError,
    check_policy,
    generate_password,
    hash_password,
    needs_rehash,
    verify_password,
)
from mlops_core.errors import MLOpsError, RequestError

GOOD = "Kerosin, Kaffee & Kabine"
FIXED_REASONS = {
    "holds a character that cannot be stored",
    "has fewer than 15 characters",
    "has more than 1024 characters",
    "is one of the passwords that are tried first",
    "is little more than the user's name or a word of this service",
}


class BlockedHasher:
    """Stands in for PasswordHash and works until it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.lock = threading.Lock()
        self.running = 0
        self.peak = 0
        self.started = 0

    def hash(self, password: bytes) -> str:
        assert password == GOOD.encode()
        with self.lock:
            self.started += 1
            self.running += 1
            self.peak = max(self.peak, self.running)
        assert self.release.wait(10)
        with self.lock:
            self.running -= 1
        return "hash"


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> BlockedHasher:
    hasher = BlockedHasher()
    monkeypatch.setattr(passwords, "HASHER", hasher)
    return hasher


@pytest.mark.parametrize(
    "password",
    [
        GOOD,
        "x7!" * 5,
        "a" * 15,
        "a" * 128,
        "ä" * MIN_LENGTH,
        "🛫" * MIN_LENGTH,
        " leading and trailing ",
        "               ",
        "new\nline\tand\x1bescape",
        "z" * 1024,
        "alice in wonderland, twice",
        "our flights to Oslo are late",
    ],
)
def test_any_long_password_is_good(password: str) -> None:
    check_policy("alice", password)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "has fewer"),
        ("a" * 14, "has fewer"),
        ("e\u0301" * 14, "has fewer"),  # 28 code points, but 14 characters
        ("a" * 1025, "has more"),
        ("a" * 20 + "\0", "holds"),
        ("a" * 20 + "\ud800", "holds"),
        ("alicealicealice", "is little"),
        ("ALICEaliceALICE", "is little"),
        ("alice-alice-alice!", "is little"),
        ("alice2013alice2013", "is little"),
        ("mlopsmlopsmlopsmlops", "is little"),
        ("Mlops Mlops 20132013", "is little"),
        ("mlopsmlopsmlops", "is little"),
        ("passwordpassword", "is little"),
        ("alicemlopspassword", "is little"),
        ("123456789012345", "is one of"),
        ("1Q2W3E4R5T6Y7U8I", "is one of"),
        ("qwertyuiopasdfghjkl", "is one of"),
        (" friend of emily ", "is one of"),
    ],
)
def test_a_guessable_password_is_refused(password: str, reason: str) -> None:
    with pytest.raises(PasswordPolicyError) as caught:
        check_policy("alice", password)
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize("name", ["anna.karenina@example.com", "anna_karenina"])
def test_a_part_of_the_name_repeated_is_refused(name: str) -> None:
    with pytest.raises(PasswordPolicyError):
        check_policy(name, "kareninakarenina")


@pytest.mark.parametrize("password", sorted(COMMON))
def test_every_common_password_would_pass_without_the_list(password: str) -> None:
    assert len(password) >= MIN_LENGTH
    with pytest.raises(PasswordPolicyError):
        check_policy("alice", password)


@given(st.text(st.characters(codec=None), max_size=60), st.text(st.characters(codec=None), max_size=20))
def test_the_policy_answers_with_a_fixed_reason_or_none(password: str, name: str) -> None:
    error = refusal(name, password)
    if error:
        assert error.reason in FIXED_REASONS
        assert str(error) == f"This password is refused: it {error.reason}. Choose another one."
    else:
        assert len(unicodedata.normalize("NFC", password)) >= MIN_LENGTH


def refusal(name: str, password: str) -> PasswordPolicyError | None:
    try:
        check_policy(name, password)
    except PasswordPolicyError as error:
        return error
    return None


def test_a_hostile_name_does_not_slow_the_policy_down() -> None:
    check_policy("mlopsmlops", "mlops" * 140 + "abcdefgh")


def test_a_generated_password_is_good() -> None:
    made = {generate_password() for _ in range(20)}
    assert len(made) == 20
    for password in made:
        check_policy("alice", password)


def test_production_hashes_with_argon2id_at_full_cost() -> None:
    stored = run(hash_password(GOOD))
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert not needs_rehash(stored)


@pytest.mark.usefixtures("cheap_hashing")
class TestCheaply:
    def test_the_same_password_gets_another_salt(self) -> None:
        assert run(hash_password(GOOD)) != run(hash_password(GOOD))

    @pytest.mark.parametrize("position", [0, 72, 127])
    def test_every_character_of_a_long_password_counts(self, position: int) -> None:
        password = "ab" * 64
        stored = run(hash_password(password))
        assert run(verify_password(password, stored))
        assert not run(verify_password(password[:position] + "x" + password[position + 1 :], stored))

    def test_composed_and_decomposed_letters_are_one_password(self) -> None:
        stored = run(hash_password("Caf\u00e9 " * 4))
        assert run(verify_password("Cafe\u0301 " * 4, stored))

    @pytest.mark.parametrize("password", ["\ud800" * 15, "a\0" * 10, "", "x" * 100_000])
    def test_a_password_that_nobody_can_have_is_just_wrong(self, password: str) -> None:
        assert not run(verify_password(password, run(hash_password(GOOD))))

    @pytest.mark.parametrize("stored", [None, "", "plain text", "$2b$12$" + "a" * 53, "$argon2id$broken"])
    def test_a_missing_or_broken_hash_costs_one_hash_and_fits_nothing(
        self, stored: str | None, argon2_calls: list[str]
    ) -> None:
        assert not run(verify_password(GOOD, stored))
        assert argon2_calls == ["hash"]

    def test_weaker_parameters_ask_for_a_new_hash(self) -> None:
        weaker = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1, hash_len=16),))
        stored = weaker.hash(GOOD)
        assert needs_rehash(stored)
        assert run(verify_password(GOOD, stored))


def test_two_hash_at_a_time_while_the_event_loop_runs_on(blocked: BlockedHasher) -> None:
    async def scenario() -> list[str]:
        tasks = [asyncio.create_task(hash_password(GOOD)) for _ in range(8)]
        while blocked.started < HASHING_THREADS:
            await asyncio.sleep(0.005)  # a blocked loop would never get on
        await asyncio.sleep(0.05)
        assert blocked.started == HASHING_THREADS
        blocked.release.set()
        return await asyncio.gather(*tasks)

    assert run(scenario()) == ["hash"] * 8
    assert blocked.peak == HASHING_THREADS


def test_one_too_many_is_refused_at_once_and_the_rest_is_served(blocked: BlockedHasher) -> None:
    async def scenario() -> list[str]:
        tasks = [asyncio.create_task(hash_password(GOOD)) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0.01)
        with pytest.raises(HashingBusyError) as caught:
            await hash_password(GOOD)
        assert caught.value.retry_after == 5
        blocked.release.set()
        return await asyncio.gather(*tasks)

    assert len(run(scenario())) == MAX_WAITING
    assert run(hash_password(GOOD)) == "hash"


def test_who_gives_up_while_waiting_is_never_hashed(blocked: BlockedHasher) -> None:
    async def scenario() -> None:
        working = [asyncio.create_task(hash_password(GOOD)) for _ in range(HASHING_THREADS)]
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(hash_password(GOOD))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        blocked.release.set()
        await asyncio.gather(*working)

    run(scenario())
    run(hash_password(GOOD))
    assert blocked.started == HASHING_THREADS + 1


def test_the_policy_is_a_wrong_request_and_being_busy_is_not() -> None:
    assert issubclass(PasswordPolicyError, RequestError)
    assert issubclass(HashingBusyError, MLOpsError)
    assert not issubclass(HashingBusyError, RequestError)
