"""Which passwords are good enough, and argon2id at a bounded pace, away from the event loop.

MLOpsError
├── PasswordPolicyError   a RequestError: the new password is refused
└── HashingBusyError      too many logins wait already
"""

import asyncio
import re
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import BoundedSemaphore
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

from mlops_core.errors import MLOpsError, RequestError

MIN_LENGTH = 15  # NIST SP 800-63B-4: a password that is the only factor
MAX_LENGTH = 1024
GENERATED_BYTES = 18

T = TypeVar("T")

HASHING_THREADS = 2  # 64 MiB each
MAX_WAITING = 32  # at 0.3 s each the last one waits about five seconds
BUSY_SECONDS = 5

HASHER = PasswordHash((Argon2Hasher(),))

CONTEXT_WORDS = ("mlops", "password", "passphrase", "secret", "admin", "welcome", "letmein")
MIN_DISTINCT_BESIDE_CONTEXT = 6
# Those of the 20,000 most common passwords (Royce Williams' list, which Django ships) that pass the length rule,
# and their like: longer runs over the keyboard, doubled words, a famous comic.
COMMON = frozenset(
    """
    111111111111111 000000000000000 1111111111111111 0000000000000000 12345678901234567890 1234567890123456
    123456789012345 123456789123456 123456789123456789 123456789987654321 12345678900987654321 1234567891234567
    1234567890987654321 12345678987654321 123456789101112 12345678910111213 112233445566778899 987654321987654321
    123456789qwerty qwerty123456789 1234567890qwertyuiop qwertyuiop1234567890 qwertyuiop123456789 qwertyuiop12345
    qwertyuiopasdfghjkl qwertyuiopasdfghjklzxcvbnm qwertyuiopasdfg qwertyqwertyqwerty qwerty1234567890
    1q2w3e4r5t6y7u8 1q2w3e4r5t6y7u8i 1q2w3e4r5t6y7u8i9o 1q2w3e4r5t6y7u8i9o0p q1w2e3r4t5y6u7i8 q1w2e3r4t5y6u7i8o9p0
    1qaz2wsx3edc4rfv 1qaz2wsx3edc4rfv5tgb qazwsxedcrfvtgb qazwsxedcrfvtgbyhnujm zaq12wsxcde34rfv asdfghjklasdfghjkl
    zxcvbnmasdfghjkl zxcvbnmzxcvbnm123 abcdefghijklmno abcdefghijklmnop abcdefghijklmnopqrstuvwxyz abc123abc123abc123
    manchesterunited kartoffelpuffer migrationschool familiyafamiliya neworleans12345
    lightpower12345 somanypickles27 stefangreil1983 demon1q2w3e4r5t mega_pizdetz666 sdf7asdf6asdg8df inactive1996aug
    polniypizdec0211 polniypizdec1102 polniypizdec110211 yfdbufnjh10305070 doomsayer.2.7mords.v doomsayer.2.7mords.vv
    john!20130605at1753 iloveyouiloveyou iloveyou1234567 correcthorsebatterystaple thisisapassword changemechangeme
    trustno1trustno1
    """.split()  # noqa: SIM905  a list of literals would fill three screens
) | {"friend of emily", "friend of gerly", "correct horse battery staple"}


class PasswordPolicyError(RequestError):
    """`reason` is one of a few fixed phrases; it never holds the password."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"This password is refused: it {reason}. Choose another one.")


class HashingBusyError(MLOpsError):
    def __init__(self, retry_after: int = BUSY_SECONDS) -> None:
        self.retry_after = retry_after
        super().__init__(f"Too many people log in at once. Try again in {retry_after} seconds.")


def check_policy(name: str, password: str) -> None:
    """Length and guessability only (NIST SP 800-63B-4): any characters, no rules about their mixture."""
    if "\0" in password or any("\ud800" <= character <= "\udfff" for character in password):
        raise PasswordPolicyError("holds a character that cannot be stored")
    length = len(unicodedata.normalize("NFC", password))
    if length < MIN_LENGTH:
        raise PasswordPolicyError(f"has fewer than {MIN_LENGTH} characters")
    if length > MAX_LENGTH:
        raise PasswordPolicyError(f"has more than {MAX_LENGTH} characters")
    if password.casefold().strip() in COMMON:
        raise PasswordPolicyError("is one of the passwords that are tried first")
    if _is_context_only(name.casefold(), password.casefold()):
        raise PasswordPolicyError("is little more than the user's name or a word of this service")


def _is_context_only(name: str, password: str) -> bool:
    parts = [part for part in re.split(r"[^a-z0-9]+", name) if len(part) > 2]
    rest = password
    for word in sorted({name, *parts, *CONTEXT_WORDS} - {""}, key=len, reverse=True):
        rest = rest.replace(word, "")
    return rest != password and len(set(rest)) < MIN_DISTINCT_BESIDE_CONTEXT


def generate_password() -> str:
    return secrets.token_urlsafe(GENERATED_BYTES)


async def hash_password(password: str) -> str:
    return await _in_turn(lambda: HASHER.hash(_encode(password)))


async def verify_password(password: str, password_hash: str | None) -> bool:
    """With no hash (an unknown user) the same work is done in vain, so that the time tells nobody who exists."""
    return await _in_turn(lambda: _verify(_encode(password), password_hash))


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made with weaker parameters than today's."""
    return HASHER.current_hasher.check_needs_rehash(password_hash)


def _verify(password: bytes, password_hash: str | None) -> bool:
    if password_hash is not None:
        try:
            return HASHER.verify(password, password_hash)
        except UnknownHashError:
            pass  # a broken row is nobody's right password
    HASHER.hash(password)
    return False


def _encode(password: str) -> bytes:
    """Normalised, so that é typed on another machine is the same é; a lone surrogate is wrong and raises nothing."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


_places = BoundedSemaphore(MAX_WAITING)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="argon2")


async def _in_turn(work: Callable[[], T]) -> T:
    """Runs in one of few threads. Who waits holds no thread, and one who gives up is taken out of the queue.

    `asyncio.to_thread` with a semaphore would share the loop's default threads with every database call.
    """
    if not _places.acquire(blocking=False):
        raise HashingBusyError
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads(), work)
    finally:
        _places.release()
