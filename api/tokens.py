"""Access tokens: HS256 with keys from the configuration only, refused with one sentence whatever is wrong.

MLOpsError
├── WeakSecretError     stops the start: a key that is short, known or no random secret
└── InvalidTokenError   any bad token

Whether the session still lives and what the account may do is asked of the database, elsewhere.
"""

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Never

from jose import exceptions, jwk, jwt  # type: ignore[import-untyped]  # python-jose ships no types

from mlops_core.errors import MLOpsError

ALGORITHM = "HS256"
TOKEN_TYPE = "at+jwt"  # noqa: S105  # the type's name in RFC 9068, no secret
ISSUER = "mlops"
AUDIENCE = "mlops-api"
LEEWAY_SECONDS = 5
MAX_LIFETIME_SECONDS = 900

CURRENT_VARIABLE = "MLOPS_JWT_SECRET"
PREVIOUS_VARIABLE = "MLOPS_JWT_PREVIOUS_SECRET"
MIN_KEY_BYTES = 32  # RFC 7518, section 3.2
MIN_DISTINCT_BYTES = 8
SAMPLE = re.compile(
    r"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"  # FastAPI's tutorial; the next two: jwt.io
    r"|a-string-secret-at-least|256-bit-secret|example|change.?(me|this|it)|replace.?(me|this)|(your|my|super|top).?secret",
    re.IGNORECASE,
)

# The header's 256 characters leave no room for the nesting that makes the JSON parser raise RecursionError.
MAX_TOKEN_LENGTH = 2400
SHAPE = re.compile(r"[A-Za-z0-9_-]{1,256}\.[A-Za-z0-9_-]{1,2048}\.[A-Za-z0-9_-]{43}")
IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")
SCOPE = re.compile(r"(?!.{257})[a-z0-9:._-]+( [a-z0-9:._-]+)*")
TEXT_CLAIMS = {"sub": IDENTIFIER, "jti": IDENTIFIER, "sid": IDENTIFIER, "scope": SCOPE}
NUMBER_CLAIMS = ("ver", "iat", "nbf", "exp")
PICK_CLAIMS = itemgetter("sub", "jti", "sid", "ver", "scope", "iat", "exp")
CLAIM_NAMES = {"iss", "aud", *TEXT_CLAIMS, *NUMBER_CLAIMS}
# python-jose ignores PyJWT's `require` list without a word and lets a token without `exp` live for ever.
REQUIRED = {f"require_{name}": True for name in ("aud", "iat", "exp", "nbf", "iss", "sub", "jti")}


class WeakSecretError(MLOpsError):
    """The message never shows the secret."""

    def __init__(self, variable: str, reason: str) -> None:
        self.variable = variable
        self.reason = reason
        advice = "" if variable == CURRENT_VARIABLE else "Leave it empty. "
        super().__init__(
            f"{variable} {reason}. {advice}"
            f'Make {CURRENT_VARIABLE} with: python -c "import secrets; print(secrets.token_urlsafe(48))"'
        )


class InvalidTokenError(MLOpsError):
    """Carries no reason: a caller who learns what was wrong learns how to get further."""

    def __init__(self) -> None:
        super().__init__("The access token is not valid. Log in again.")


@dataclass(frozen=True)
class KeyRing:
    """New tokens bear `current`; every key of the ring is accepted."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)

    @cached_property
    def hmac_keys(self) -> dict[str, Any]:
        """python-jose's key objects: raw bytes that look like JSON it parses (`["a", "b"]` would become two keys)."""
        return {kid: jwk.construct(key, ALGORITHM) for kid, key in self.keys.items()}


@dataclass(frozen=True, slots=True)
class Claims:
    """`sub` is the user's id, `sid` the session's, `ver` the account's token version."""

    sub: str
    jti: str
    sid: str
    ver: int
    scope: str
    iat: int
    exp: int


def build_key_ring(secret: str, previous: str = "") -> KeyRing:
    """The ring of the two variables; each `kid` follows from its key, so rotating needs nothing else."""
    current = _checked_key(CURRENT_VARIABLE, secret)
    keys = [current, _checked_key(PREVIOUS_VARIABLE, previous)] if previous else [current]
    return KeyRing(_kid(current), MappingProxyType({_kid(key): key for key in keys}))


def _checked_key(variable: str, secret: str) -> bytes:
    key = secret.encode("utf-8", "surrogateescape")  # the environment may hold bytes that are no UTF-8
    if len(key) < MIN_KEY_BYTES:
        raise WeakSecretError(variable, f"has {len(key)} bytes and needs {MIN_KEY_BYTES}")
    if SAMPLE.search(secret):
        raise WeakSecretError(variable, "contains a sample value that everybody knows")
    if len(set(key)) < MIN_DISTINCT_BYTES:
        raise WeakSecretError(variable, f"repeats fewer than {MIN_DISTINCT_BYTES} different characters")
    try:
        jwk.construct(key, ALGORITHM)
    except exceptions.JWKError:
        raise WeakSecretError(variable, "is an asymmetric key or a certificate, not a secret") from None
    return key


def _kid(key: bytes) -> str:
    return hashlib.sha256(b"mlops kid\0" + key).hexdigest()[:16]


def issue_access_token(
    ring: KeyRing, *, sub: str, sid: str, ver: int, scope: str, now: int, lifetime: int = MAX_LIFETIME_SECONDS
) -> tuple[str, Claims]:
    """Raises ValueError or TypeError for claims that `verify_access_token` would refuse."""
    payload: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": sub, "jti": secrets.token_urlsafe(16), "sid": sid}
    payload |= {"ver": ver, "scope": scope, "iat": now, "nbf": now, "exp": now + lifetime}
    claims = _check_claims(payload, now)
    headers = {"typ": TOKEN_TYPE, "kid": ring.current}
    return jwt.encode(payload, ring.hmac_keys[ring.current], ALGORITHM, headers=headers), claims


def verify_access_token(ring: KeyRing, token: str, now: int | None = None) -> Claims:
    """Raises InvalidTokenError for every bad token; `now` defaults to the clock."""
    # Hostile JSON raises RecursionError, TypeError and OverflowError, which a list of exceptions would let through.
    try:
        return _verify(ring, token, now)
    except Exception:
        raise InvalidTokenError from None


def _verify(ring: KeyRing, token: str, now: int | None) -> Claims:
    # The order matters: no JSON is parsed before the shape is known, no claim read before the signature is verified.
    _require(len(token) <= MAX_TOKEN_LENGTH and SHAPE.fullmatch(token) is not None, "three segments of base64url")
    raw_header, raw_payload, _ = [_decode_segment(segment) for segment in token.split(".")]
    header = STRICT_JSON.decode(raw_header.decode())
    _require(header == {"alg": ALGORITHM, "typ": TOKEN_TYPE, "kid": header["kid"]}, "exactly the known header")
    key, clock = ring.hmac_keys[header["kid"]], int(time.time())
    moment = clock if now is None else now
    # python-jose reads the clock itself: for another `now` its window is widened, and the check below decides.
    options = REQUIRED | {"leeway": LEEWAY_SECONDS + abs(moment - clock)}
    jwt.decode(token, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, options=options)
    return _check_claims(STRICT_JSON.decode(raw_payload.decode()), moment)


def _check_claims(claims: dict[str, Any], now: int) -> Claims:
    _require(claims.keys() == CLAIM_NAMES, "exactly the known claims")
    _require(claims["iss"] == ISSUER and claims["aud"] == AUDIENCE, "issuer and audience")
    for name, pattern in TEXT_CLAIMS.items():
        _require(pattern.fullmatch(claims[name]) is not None, name)  # anything but a text raises TypeError
    for name in NUMBER_CLAIMS:
        _require(type(claims[name]) is int, name)  # isinstance would let True pass
    _require(0 <= claims["ver"] < 2**31, "ver is in range")
    _require(max(claims["iat"], claims["nbf"]) <= now + LEEWAY_SECONDS, "iat and nbf are not in the future")
    _require(claims["exp"] > now - LEEWAY_SECONDS, "exp is not past")
    _require(0 < claims["exp"] - claims["iat"] <= MAX_LIFETIME_SECONDS, "from iat to exp is a short time")
    return Claims(*PICK_CLAIMS(claims))


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise ValueError(f"Broken rule of access tokens: {rule}.")


def _decode_segment(segment: str) -> bytes:
    """Refuses spare bits: several texts for one token would slip past a list of revoked texts."""
    raw = base64.urlsafe_b64decode(segment + "==")
    _require(base64.urlsafe_b64encode(raw).rstrip(b"=") == segment.encode(), "canonical base64url")
    return raw


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    _require(len(names) == len(pairs), "each name once")
    return names


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"Broken rule of access tokens: {name} is no JSON.")


STRICT_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
