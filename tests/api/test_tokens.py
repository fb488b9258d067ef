"""Attacks on access tokens. The forger signs with `hmac` itself: no library's politeness is in the way."""

import base64
import hmac
import json
import secrets
import socket
import string
import time
from collections.abc import Callable
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from api.tokens import (
    AUDIENCE,
    ISSUER,
    LEEWAY_SECONDS,
    MAX_LIFETIME_SECONDS,
    Claims,
    InvalidTokenError,
    KeyRing,
    WeakSecretError,
    build_key_ring,
    issue_access_token,
    verify_access_token,
)
from mlops_core.errors import MLOpsError

NOW = 1_800_000_000
SECRET = "vN7-q2LxT0wRz_8KfYbH4mCjE6sUaD1gPo9iXkQe5WnZtBrJ"
OLD_SECRET = "Ue3_hGm6Tq-XcP1zBw9LsRk0YvNj8FoDa5iHtKx2EfWb7QyM"
RING = build_key_ring(SECRET)
HEADER = {"alg": "HS256", "typ": "at+jwt", "kid": RING.current}
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "42",
    "jti": "q8Zr0LwXcV5nTb2KdYh7Gg",
    "sid": "6f1d0c3e-6d0a-4a51-9a39-0d7c7a4a9f3b",
    "ver": 3,
    "scope": "predict monitor",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + MAX_LIFETIME_SECONDS,
}
BASE64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
TIMES = ("iat", "nbf", "exp")
IDENTITIES = ("sub", "jti", "sid")


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def as_json(value: Any) -> bytes:
    """Bytes stay as they are, the rest becomes JSON, `NaN` and `Infinity` included."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def resigned(head: str, body: str, key: bytes = SECRET.encode(), digest: str = "sha256") -> str:
    """Segments as they are written, honestly signed."""
    text = f"{head}.{body}"
    return f"{text}.{b64(hmac.digest(key, text.encode(), digest))}"


def signed(header: Any, claims: Any, key: bytes = SECRET.encode(), digest: str = "sha256") -> str:
    return resigned(b64(as_json(header)), b64(as_json(claims)), key, digest)


def with_header(**changes: Any) -> str:
    return signed(HEADER | changes, CLAIMS)


def with_claims(**changes: Any) -> str:
    return signed(HEADER, CLAIMS | changes)


def without(names: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in names.items() if key != name}


def with_literal(names: dict[str, Any], name: str, literal: str) -> bytes:
    """JSON text with a literal that `json.dumps` would not write."""
    return json.dumps(names | {name: "@@"}).replace('"@@"', literal).encode()


def with_member(names: dict[str, Any], member: str) -> bytes:
    """JSON text with one member more, whose name may be there already."""
    return f"{json.dumps(names)[:-1]}, {member}}}".encode()


def respelled(segment: str, bits: int = 1) -> str:
    """The same bytes with other spare bits in the last character."""
    return segment[:-1] + BASE64[BASE64.index(segment[-1]) ^ bits]


GOOD = signed(HEADER, CLAIMS)
HEAD, BODY, SIGNATURE = GOOD.split(".")


def algorithm_attacks() -> dict[str, str]:
    nones = ["none", "None", "NONE", "nOnE", "none ", "null", ""]
    oddities: list[Any] = [
        None,
        True,
        256,
        ["HS256"],
        {"HS256": 1},
        "hs256",
        "HS256 ",
        "HS256\0",
        "HS256\u200b",
        "ΗS256",
        "HMAC",
    ]
    others = ["HS1", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA", "dir", "A128KW", "RSA-OAEP"]
    attacks = {f"alg {name!r} unsigned": f"{b64(as_json(HEADER | {'alg': name}))}.{BODY}." for name in nones}
    attacks |= {f"alg {name!r} over a good signature": with_header(alg=name) for name in [*nones, *oddities, *others]}
    attacks["alg missing"] = signed(without(HEADER, "alg"), CLAIMS)
    for name in ("sha384", "sha512"):
        digest = hmac.digest(SECRET.encode(), f"{HEAD}.{BODY}".encode(), name)
        attacks[f"alg HS{name[3:]} with our key"] = signed(HEADER | {"alg": f"HS{name[3:]}"}, CLAIMS, digest=name)
        attacks[f"{name} behind alg HS256"] = f"{HEAD}.{BODY}.{b64(digest)}"
        attacks[f"{name} behind alg HS256, cut to 32 bytes"] = f"{HEAD}.{BODY}.{b64(digest[:32])}"
    return attacks


def confusion_attacks() -> dict[str, str]:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    extra = {"typ": "at+jwt", "kid": RING.current}
    attacks = {
        f"{name} by a stranger": pyjwt.encode(CLAIMS, rsa_key, name, headers=extra) for name in ("RS256", "PS256")
    }
    attacks["ES256 by a stranger"] = pyjwt.encode(CLAIMS, ec_key, "ES256", headers=extra)
    publics: dict[str, Any] = {"RS256": rsa_key.public_key(), "ES256": ec_key.public_key()}
    for name, public in publics.items():
        for form, encoding in {"PEM": Encoding.PEM, "DER": Encoding.DER}.items():
            key = public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
            attacks[f"{name} public key in {form} as the secret of HS256"] = signed(HEADER, CLAIMS, key)
            attacks[f"{name} public key in {form} as the secret of {name}"] = signed(
                HEADER | {"alg": name}, CLAIMS, key
            )
    return attacks


def shape_attacks() -> dict[str, str]:
    six = [HEAD, BODY, SIGNATURE, "e30", "e30", "e30"]
    attacks = {f"{count} segments": ".".join(six[:count]) for count in (1, 2, 4, 5, 6)}
    attacks |= {f"{count} empty segments": "." * (count - 1) for count in range(1, 7)}
    attacks |= {
        "empty header": f".{BODY}.{SIGNATURE}",
        "empty payload": f"{HEAD}..{SIGNATURE}",
        "empty signature": f"{HEAD}.{BODY}.",
        "signature alone": f"..{SIGNATURE}",
        "empty header, signed": resigned("", BODY),
        "empty payload, signed": resigned(HEAD, ""),
        "header and payload swapped": f"{BODY}.{HEAD}.{SIGNATURE}",
        "trailing dot": f"{GOOD}.",
        "leading dot": f".{GOOD}",
        "two tokens": f"{GOOD}.{GOOD}",
        "two tokens with a comma": f"{GOOD},{GOOD}",
        "percent-encoded dots": GOOD.replace(".", "%2E"),
        "full-width dots": GOOD.replace(".", "．"),
        "full-width letter": "ｅ" + GOOD[1:],
        "lone surrogate": GOOD[:-1] + "\ud800",
        "scheme inside": f"Bearer {GOOD}",
        "quotes around": f'"{GOOD}"',
        "JSON serialization": json.dumps({"protected": HEAD, "payload": BODY, "signature": SIGNATURE}),
        "upper case": GOOD.upper(),
        "signature twice": GOOD + SIGNATURE,
        "signature one character short": GOOD[:-1],
        "signature of one byte": f"{HEAD}.{BODY}.AA",
        "signature of zeros": f"{HEAD}.{BODY}.{b64(bytes(32))}",
        "signature of another token": f"{HEAD}.{BODY}.{with_claims(sub='43').split('.')[2]}",
        "payload of another token": f"{HEAD}.{with_claims(sub='43').split('.')[1]}.{SIGNATURE}",
        "header of one character": resigned("e", BODY),
        "five million letters": "A" * 5_000_000,
        "five million dots": "." * 5_000_000,
        "header too long": signed(as_json(HEADER) + b" " * 200, CLAIMS),
        "payload too long": signed(HEADER, as_json(CLAIMS) + b" " * 2000),
    }
    parts = {
        "=": "=",
        "==": "==",
        "!!": "!!",
        "a space": " ",
        "a newline": "\n",
        "a NUL": "\0",
        "a tab": "\t",
        "BOM": "\ufeff",
    }
    for name, part in parts.items():
        attacks |= {
            f"{name} after the token": GOOD + part,
            f"{name} before the token": part + GOOD,
            f"{name} after the header": f"{HEAD}{part}.{BODY}.{SIGNATURE}",
            f"{name} after the payload": f"{HEAD}.{BODY}{part}.{SIGNATURE}",
            f"{name} inside the signature": GOOD[:-5] + part + GOOD[-5:],
        }
    return attacks


def spelling_attacks() -> dict[str, str]:
    """Other texts for good bytes; python-jose accepts them all."""
    tokens = [with_claims(jti=f"spelling-{number}") for number in range(50)]
    dashed = next(token for token in tokens if {"-", "_"} <= set(token.rsplit(".", 1)[1]))
    front, signature = dashed.rsplit(".", 1)
    loose = {len(text) % 3: b64(text) for text in (as_json(CLAIMS) + b" " * spaces for spaces in range(3))}
    loose_header = {len(text) % 3: b64(text) for text in (as_json(HEADER) + b" " * spaces for spaces in range(3))}
    return {
        "+ for - in the signature": f"{front}.{signature.replace('-', '+')}",
        "/ for _ in the signature": f"{front}.{signature.replace('_', '/')}",
        "low spare bit of the signature": respelled(GOOD, 1),
        "high spare bit of the signature": respelled(GOOD, 2),
        "one of four spare bits of the signed payload": resigned(HEAD, respelled(loose[1], 8)),
        "one of two spare bits of the signed payload": resigned(HEAD, respelled(loose[2], 1)),
        "one of four spare bits of the signed header": resigned(respelled(loose_header[1], 8), BODY),
        "one of two spare bits of the signed header": resigned(respelled(loose_header[2], 1), BODY),
        "padding in the signed header": resigned(f"{loose_header[2]}=", BODY),
        "padding in the signed payload": resigned(HEAD, f"{loose[1]}=="),
        "!! in the signed payload": resigned(HEAD, f"{BODY}!!"),
        "newlines in the signed payload": resigned(HEAD, f"{BODY[:8]}\n\n\n\n{BODY[8:]}"),
    }


def header_attacks() -> dict[str, str]:
    kids = ["", "unknown", "../../dev/null", "/dev/null", "' UNION SELECT 'x' -- ", "$(id)", "http://127.0.0.1/", "0"]
    kids += [f"{RING.current} ", f"{RING.current}\0", RING.current.upper(), RING.current[:-1], "current", "__class__"]
    odd_kids: list[Any] = [None, True, 0, 1.5, [RING.current], {"kid": RING.current}, []]
    stranger: dict[str, Any] = {"kty": "oct", "k": b64(b"k" * 32), "alg": "HS256"}
    extras: dict[str, Any] = {
        "jku": "http://127.0.0.1/keys.json",
        "jwk": stranger,
        "x5u": "http://127.0.0.1/x.pem",
        "x5c": ["MIIB"],
        "x5t": "AAAA",
        "crit": ["exp"],
        "zip": "DEF",
        "cty": "JWT",
        "b64": False,
        "iss": ISSUER,
        "ALG": "none",
        "": "",
    }
    types: list[Any] = [
        None,
        "",
        "JWT",
        "jwt",
        "AT+JWT",
        "at+jwt ",
        "application/at+jwt",
        "rt+jwt",
        "refresh",
        "reset+jwt",
        ["at+jwt"],
        1,
    ]
    attacks = {f"kid {kid!r}": with_header(kid=kid) for kid in [*kids, *odd_kids]}
    attacks |= {f"kid {kid!r} and the key it hopes for": signed(HEADER | {"kid": kid}, CLAIMS, b"") for kid in kids}
    attacks |= {f"{name} beside the known names": with_header(**{name: value}) for name, value in extras.items()}
    attacks |= {
        f"{name} instead of kid": signed(without(HEADER, "kid") | {name: extras[name]}, CLAIMS) for name in extras
    }
    attacks["jwk that signs"] = signed(HEADER | {"jwk": stranger}, CLAIMS, b"k" * 32)
    attacks |= {f"typ {name!r}": with_header(typ=name) for name in types}
    attacks |= {f"{name} missing": signed(without(HEADER, name), CLAIMS) for name in ("kid", "typ")}
    duplicates = [
        '"alg": "none"',
        '"alg": "HS256"',
        f'"kid": "{RING.current}"',
        '"typ": "at+jwt"',
        '"\\u0061lg": "HS256"',
    ]
    attacks |= {f"twice: {member}": signed(with_member(HEADER, member), CLAIMS) for member in duplicates}
    attacks |= {
        f"kid {word}": signed(with_literal(HEADER, "kid", word), CLAIMS) for word in ("NaN", "Infinity", "1e400")
    }
    attacks |= document_attacks("header", HEADER, lambda text: signed(text, CLAIMS))
    attacks |= {
        "header nested 2000 lists deep": f"{b64(b'[' * 2000)}.e30.x",
        "header nested 2000 lists deep, signed": signed(b"[" * 2000, {}),
        "header nested 190 lists deep, signed": signed(b"[" * 95 + b"]" * 95, CLAIMS),
        "kid nested 50 lists deep, signed": signed(with_literal(HEADER, "kid", "[" * 50 + "]" * 50), CLAIMS),
        "header is a whole token": resigned(b64(b'"eyJhbGciOiJub25lIn0.e30."'), BODY),
    }
    return attacks


def document_attacks(where: str, names: dict[str, Any], forge: Callable[[bytes], str]) -> dict[str, str]:
    """What is no single JSON object in UTF-8."""
    text = as_json(names)
    documents = {
        "empty object": b"{}",
        "list": b"[]",
        "list of pairs": as_json(list(names.items())),
        "null": b"null",
        "number": b"1",
        "true": b"true",
        "text": b'"text"',
        "NaN": b"NaN",
        "no JSON": b"\0\1\2",
        "byte order mark": b"\xef\xbb\xbf" + text,
        "UTF-16": text.decode().encode("utf-16"),
        "bytes that are no UTF-8": text[:-1] + b', "x": "\xff"}',
        "trailing garbage": text + b"x",
        "trailing NUL": text + b"\0",
        "two documents": text + b"{}",
        "cut short": text[:-1],
        "trailing comma": text[:-1] + b",}",
        "comment": text + b"/**/",
        "single quotes": text.replace(b'"', b"'"),
    }
    return {f"{where}: {name}": forge(document) for name, document in documents.items()}


def time_attacks() -> dict[str, str]:
    values: list[Any] = [None, True, False, NOW + 0.5, float(NOW), str(NOW), "", "tomorrow", [NOW], {"$gt": 0}, 10**400]
    words = [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-1e400",
        "1.8e9",
        "18e8",
        "0x6B49D200",
        "01800000000",
        "1_800_000_000",
    ]
    attacks = {f"{name} missing": signed(HEADER, without(CLAIMS, name)) for name in TIMES}
    attacks |= {
        f"{name} {str(value)[:20]!r} as {type(value).__name__}": with_claims(**{name: value})
        for name in TIMES
        for value in values
    }
    attacks |= {f"{name} {word}": signed(HEADER, with_literal(CLAIMS, name, word)) for name in TIMES for word in words}
    attacks |= {f"{name} {value}": with_claims(**{name: value}) for name in ("iat", "exp") for value in (0, -1)}
    attacks |= {
        "expired an hour ago": with_claims(iat=NOW - 4500, nbf=NOW - 4500, exp=NOW - 3600),
        "expired beyond the leeway": with_claims(iat=NOW - 905, nbf=NOW - 905, exp=NOW - LEEWAY_SECONDS),
        "issued in an hour": with_claims(iat=NOW + 3600, exp=NOW + 4500),
        "issued beyond the leeway": with_claims(iat=NOW + LEEWAY_SECONDS + 1),
        "valid beyond the leeway": with_claims(nbf=NOW + LEEWAY_SECONDS + 1),
        "a second too long": with_claims(exp=NOW + MAX_LIFETIME_SECONDS + 1),
        "too long from an old iat": with_claims(iat=NOW - 60),
        "valid for ten years": with_claims(exp=NOW + 315_360_000),
        "milliseconds": with_claims(**{name: CLAIMS[name] * 1000 for name in TIMES}),
        "ends when it begins": with_claims(iat=NOW, exp=NOW),
        "ends before it begins": with_claims(iat=NOW + 2, exp=NOW - 2),
        "no time at all": signed(HEADER, {name: value for name, value in CLAIMS.items() if name not in TIMES}),
    }
    return attacks


def identity_attacks() -> dict[str, str]:
    """Any JSON type but text, and texts that another program could read as 42."""
    values: list[Any] = [
        None,
        True,
        42,
        42.0,
        [],
        ["42"],
        {"id": "42"},
        "",
        " ",
        " 42",
        "42 ",
        "42\n",
        "\n42",
        "42\0",
        "42\t",
        "+42.",
    ]
    values += [
        "４２",
        "٤٢",
        "4²",
        "4\u200b2",
        "\ufeff42",
        "\u202e24",
        "аdmin",
        "admın",
        "ＡＤＭＩＮ",
        "é",
        "e\u0301",
        "\ud800",
        "😀",
    ]
    values += ["42'--", "42;", "../42", "42/43", "42,43", "a@b.c", "<b>", "%34%32", "42\r\nX: y", "4" * 65, "4" * 1000]
    attacks = {f"{name} missing": signed(HEADER, without(CLAIMS, name)) for name in IDENTITIES}
    attacks |= {
        f"{name} {ascii(value)[:30]} ({len(str(value))})": with_claims(**{name: value})
        for name in IDENTITIES
        for value in values
    }
    versions: list[Any] = [None, True, False, 3.0, "3", "", [3], {}, -1, 2**31, 10**400]
    attacks |= {f"ver {str(value)[:20]!r} as {type(value).__name__}": with_claims(ver=value) for value in versions}
    attacks |= {
        f"ver {word}": signed(HEADER, with_literal(CLAIMS, "ver", word)) for word in ("NaN", "Infinity", "1e400")
    }
    attacks["ver missing"] = signed(HEADER, without(CLAIMS, "ver"))
    scopes: list[Any] = [
        None,
        True,
        1,
        ["predict"],
        {"predict": True},
        "",
        " ",
        " predict",
        "predict ",
        "predict  monitor",
        "predict\n",
    ]
    scopes += [
        "predict\tadmin",
        "predict\nadmin",
        "predict\u00a0admin",
        "predict,admin",
        "аdmin",
        "Admin",
        "admin\0",
        "*",
        '"',
    ]
    attacks |= {f"scope {ascii(value)[:30]}": with_claims(scope=value) for value in [*scopes, "p" * 257]}
    attacks["scope missing"] = signed(HEADER, without(CLAIMS, "scope"))
    return attacks


def issuer_attacks() -> dict[str, str]:
    attacks: dict[str, str] = {}
    for name, right in {"iss": ISSUER, "aud": AUDIENCE}.items():
        wrong: list[Any] = [
            None,
            True,
            1,
            "",
            "other",
            right.upper(),
            f"{right} ",
            f"{right}/",
            f"{right}\0",
            right[:-1],
            f"x{right}",
        ]
        wrong += [[right], [right, "other"], ["other", right], [], [None], {right: 1}, "https://127.0.0.1"]
        attacks |= {f"{name} {value!r}": with_claims(**{name: value}) for value in wrong}
        attacks[f"{name} missing"] = signed(HEADER, without(CLAIMS, name))
    attacks["iss and aud exchanged"] = with_claims(iss=AUDIENCE, aud=ISSUER)
    return attacks


def payload_attacks() -> dict[str, str]:
    extras = [
        "role",
        "roles",
        "is_admin",
        "admin",
        "scopes",
        "scp",
        "permissions",
        "azp",
        "client_id",
        "at_hash",
        "cnf",
    ]
    extras += [
        "act",
        "auth_time",
        "nonce",
        "user",
        "username",
        "SUB",
        "ѕub",
        "sub ",
        "",
        "__proto__",
        "__class__",
        "self",
    ]
    attacks = {f"extra claim {name!a}": with_claims(**{name: "admin"}) for name in extras}
    attacks |= {
        f"twice: {name}": signed(HEADER, with_member(CLAIMS, json.dumps({name: CLAIMS[name]})[1:-1])) for name in CLAIMS
    }
    others = ['"sub": "1"', '"\\u0073ub": "1"', '"exp": 9999999999', '"scope": "admin"', '"iss": null']
    attacks |= {f"twice: {member}": signed(HEADER, with_member(CLAIMS, member)) for member in others}
    attacks |= document_attacks("payload", CLAIMS, lambda text: signed(HEADER, text))
    nested = {"lists": ("[", "]"), "objects": ('{"a":', "}")}
    for name, (opening, closing) in nested.items():
        depth = 800 // len(opening + closing)
        deep = opening * depth + ("1" if name == "objects" else "") + closing * depth
        attacks[f"sub nested {depth} {name} deep"] = signed(HEADER, with_literal(CLAIMS, "sub", deep))
    attacks["payload nested 1500 lists deep"] = signed(HEADER, b"[" * 1500)
    attacks["all claims inside a claim"] = signed(HEADER, {"claims": CLAIMS})
    return attacks


def key_attacks() -> dict[str, str]:
    raw = SECRET.encode()
    keys = {
        "the empty key": b"",
        "another key": OLD_SECRET.encode(),
        "the word secret": b"secret",
        "32 zeros": bytes(32),
        "the kid": RING.current.encode(),
        "the kid's bytes": bytes.fromhex(RING.current),
        "the decoded secret": base64.urlsafe_b64decode(raw),
        "the secret and a newline": raw + b"\n",
        "the secret in hex": raw.hex().encode(),
        "the secret in lower case": raw.lower(),
        "the first 32 bytes of the secret": raw[:32],
        "the quoted secret": b'"' + raw + b'"',
        "None": b"None",
    }
    attacks = {f"signed with {name}": signed(HEADER, CLAIMS, key) for name, key in keys.items()}
    old_kid = build_key_ring(OLD_SECRET).current
    attacks["removed key with its own kid"] = signed(HEADER | {"kid": old_kid}, CLAIMS, OLD_SECRET.encode())
    attacks["our key with a removed kid"] = with_header(kid=old_kid)
    return attacks


FAMILIES = {
    "algorithm": algorithm_attacks,
    "confusion": confusion_attacks,
    "shape": shape_attacks,
    "spelling": spelling_attacks,
    "header": header_attacks,
    "time": time_attacks,
    "identity": identity_attacks,
    "issuer": issuer_attacks,
    "payload": payload_attacks,
    "key": key_attacks,
}
ATTACKS = {f"{family}: {name}": token for family, attacks in FAMILIES.items() for name, token in attacks().items()}


def refusal(token: Any, now: int | None = NOW, ring: KeyRing = RING) -> InvalidTokenError:
    with pytest.raises(InvalidTokenError) as caught:
        verify_access_token(ring, token, now)
    return caught.value


def issued(ring: KeyRing = RING, now: int = NOW, **changes: Any) -> tuple[str, Claims]:
    wanted: dict[str, Any] = {"sub": "42", "sid": "session-1", "ver": 3, "scope": "predict"}
    return issue_access_token(ring, now=now, **(wanted | changes))


def test_the_token_that_every_attack_starts_from_is_good() -> None:
    wanted = {name: CLAIMS[name] for name in ("sub", "jti", "sid", "ver", "scope", "iat", "exp")}
    assert verify_access_token(RING, GOOD, NOW) == Claims(**wanted)


@pytest.mark.parametrize("token", ATTACKS.values(), ids=ATTACKS)
def test_no_attack_gets_in(token: str) -> None:
    refusal(token)


def test_all_bad_tokens_get_the_same_words() -> None:
    errors = [refusal(token) for token in [*ATTACKS.values(), None, b""]]
    assert {str(error) for error in errors} == {"The access token is not valid. Log in again."}
    assert {(type(error), *vars(error)) for error in errors} == {(InvalidTokenError,)}


def test_a_bad_token_leaves_no_cause_that_a_log_would_print() -> None:
    error = refusal(with_header(kid="<script>"))
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize(
    "token", [None, b"", GOOD.encode(), bytearray(GOOD.encode()), 0, 1.5, [], [GOOD], {}, object()]
)
def test_only_a_text_can_be_a_token(token: Any) -> None:
    refusal(token)


def test_a_key_address_in_the_header_is_never_called() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/k"
        for name in ("jku", "x5u", "kid", "iss"):
            refusal(with_header(**{name: address}))
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - LEEWAY_SECONDS + 1, "iat": NOW - 800, "nbf": NOW - 800},
        {"iat": NOW + LEEWAY_SECONDS},
        {"nbf": NOW + LEEWAY_SECONDS},
        {"iat": NOW, "exp": NOW + 1},
        {"nbf": 0},
        {"sub": "4" * 64, "jti": "j", "sid": "-_", "scope": "a:b.c_d-e 9", "ver": 0},
        {"ver": 2**31 - 1, "scope": "p" * 256},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_a_token_just_inside_every_limit_is_good(changes: dict[str, Any]) -> None:
    assert verify_access_token(RING, with_claims(**changes), NOW).exp == (CLAIMS | changes)["exp"]


@pytest.mark.parametrize("segment", [HEAD, BODY, SIGNATURE], ids=["header", "payload", "signature"])
def test_every_other_character_at_every_position_is_refused(segment: str) -> None:
    start = GOOD.index(segment)
    for position in range(start, start + len(segment)):
        for character in {*BASE64, ".", "=", "+", "/", " ", "\0", "é"} - {GOOD[position]}:
            refusal(GOOD[:position] + character + GOOD[position + 1 :])


def test_every_beginning_and_every_end_of_a_token_is_refused() -> None:
    for cut in range(len(GOOD)):
        refusal(GOOD[:cut])
        refusal(GOOD[cut + 1 :])
        refusal(GOOD[:cut] + GOOD[cut + 1 :])


@settings(max_examples=500)
@given(
    start=st.integers(0, len(GOOD)),
    length=st.integers(0, 40),
    inserted=st.one_of(st.text(max_size=20), st.text(BASE64 + ".=", max_size=20), st.binary(max_size=20)),
)
def test_no_mutation_is_accepted_or_raises_another_error(start: int, length: int, inserted: str | bytes) -> None:
    text = inserted if isinstance(inserted, str) else inserted.decode("latin-1")
    mutated = GOOD[:start] + text + GOOD[start + length :]
    assume(mutated != GOOD)
    refusal(mutated)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
near_now = st.integers(-1200, 1200).map(lambda seconds: int(time.time()) + seconds)
odd_claims = st.sampled_from([*CLAIMS, "role"]).flatmap(
    lambda name: st.tuples(st.just(name), near_now if name in TIMES else json_values | st.integers(0, 9) | st.just("7"))
)


@settings(max_examples=300)
@given(header=json_values, claims=json_values, tail=st.binary(max_size=4))
def test_signed_nonsense_raises_no_other_error(header: Any, claims: Any, tail: bytes) -> None:
    refusal(signed(as_json(header) + tail, CLAIMS))
    refusal(signed(HEADER, as_json(claims) + tail))


def pyjwt_claims(token: str) -> dict[str, Any]:
    return pyjwt.decode(
        token,
        SECRET.encode(),
        algorithms=["HS256"],
        audience=AUDIENCE,
        issuer=ISSUER,
        leeway=LEEWAY_SECONDS,
        options={"require": [*CLAIMS], "strict_aud": True},
    )


@settings(max_examples=500)
@given(
    changes=st.lists(odd_claims, max_size=2), removed=st.sets(st.sampled_from([*CLAIMS]), max_size=1) | st.just(set())
)
def test_what_we_accept_pyjwt_accepts_too(changes: list[tuple[str, Any]], removed: set[str]) -> None:
    began = int(time.time())
    claims = CLAIMS | {"iat": began, "nbf": began, "exp": began + 900} | dict(changes)
    token = signed(HEADER, {name: value for name, value in claims.items() if name not in removed})
    try:
        accepted = verify_access_token(RING, token)
    except InvalidTokenError:
        return
    theirs = pyjwt_claims(token)
    assume(int(time.time()) == began)
    assert {name: theirs[name] for name in Claims.__slots__} == {
        name: getattr(accepted, name) for name in Claims.__slots__
    }


identifiers = st.text(BASE64, min_size=1, max_size=64)
scopes = st.lists(st.sampled_from(["predict", "monitor", "admin", "models:read"]), min_size=1, max_size=4).map(" ".join)


@given(
    ids=st.tuples(identifiers, identifiers, identifiers),
    ver=st.integers(0, 2**31 - 1),
    scope=scopes,
    lifetime=st.integers(1, MAX_LIFETIME_SECONDS),
    order=st.permutations([*CLAIMS]),
)
def test_what_pyjwt_issues_with_the_right_claims_we_accept(
    ids: tuple[str, str, str], ver: int, scope: str, lifetime: int, order: list[str]
) -> None:
    now = int(time.time())
    claims = CLAIMS | dict(zip(IDENTITIES, ids, strict=True)) | {"ver": ver, "scope": scope}
    claims |= {"iat": now, "nbf": now, "exp": now + lifetime}
    token = pyjwt.encode({name: claims[name] for name in order}, SECRET, "HS256", headers={**HEADER})
    assert verify_access_token(RING, token) == Claims(**{name: claims[name] for name in Claims.__slots__})


def test_what_we_issue_pyjwt_accepts() -> None:
    token, claims = issued(now=int(time.time()))
    assert pyjwt.get_unverified_header(token) == HEADER
    assert pyjwt_claims(token) == CLAIMS | {
        "sub": "42",
        "jti": claims.jti,
        "sid": "session-1",
        "scope": "predict",
        "iat": claims.iat,
        "nbf": claims.iat,
        "exp": claims.iat + 900,
    }


def test_an_issued_token_comes_back_as_its_claims() -> None:
    token, claims = issued(lifetime=60)
    assert verify_access_token(RING, token, NOW + 59) == claims
    assert (claims.sub, claims.sid, claims.ver, claims.scope) == ("42", "session-1", 3, "predict")
    assert claims.exp - claims.iat == 60


@pytest.mark.parametrize(("now", "good"), [(-6, False), (-5, True), (0, True), (900, True), (904, True), (905, False)])
def test_a_token_lives_fifteen_minutes_and_the_leeway(now: int, good: bool) -> None:
    token, claims = issued()
    if good:
        assert verify_access_token(RING, token, NOW + now) == claims
    else:
        refusal(token, NOW + now)


@pytest.mark.parametrize(("age", "good"), [(0, True), (800, True), (2000, False), (-60, False)])
def test_without_now_the_clock_decides(age: int, good: bool) -> None:
    token, claims = issued(now=int(time.time()) - age)
    if good:
        assert verify_access_token(RING, token) == claims
    else:
        refusal(token, None)


@pytest.mark.parametrize("start", [0, 1_000_000_000, NOW, 10_000_000_000])
def test_python_jose_s_own_clock_neither_opens_nor_closes_another_now(start: int) -> None:
    claims = CLAIMS | {"iat": start, "nbf": start, "exp": start + 900}
    assert verify_access_token(RING, signed(HEADER, claims), start).iat == start
    refusal(signed(HEADER, claims | {"nbf": start + LEEWAY_SECONDS + 1}), start)
    refusal(signed(HEADER, claims), start + 900 + LEEWAY_SECONDS)
    refusal(signed(HEADER, claims), start - LEEWAY_SECONDS - 1)


def test_two_tokens_never_share_an_id() -> None:
    assert len({issued()[1].jti for _ in range(200)}) == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"lifetime": MAX_LIFETIME_SECONDS + 1},
        {"lifetime": 0},
        {"lifetime": -60},
        {"lifetime": 60.0},
        {"sub": ""},
        {"sub": 42},
        {"sub": "ann@example.org"},
        {"sid": "x" * 65},
        {"ver": -1},
        {"ver": True},
        {"scope": ""},
        {"scope": ["predict"]},
        {"now": float(NOW)},
    ],
    ids=str,
)
def test_nothing_is_issued_that_would_be_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        issued(**changes)


def test_the_longest_token_we_issue_is_short_enough() -> None:
    longest = "x" * 64
    token, claims = issued(sub=longest, sid=longest, ver=2**31 - 1, scope="p" * 256)
    assert verify_access_token(RING, token, NOW) == claims


def test_after_rotation_the_previous_key_is_accepted_until_it_is_removed() -> None:
    token, claims = issued(build_key_ring(OLD_SECRET))
    assert verify_access_token(build_key_ring(SECRET, OLD_SECRET), token, NOW) == claims
    refusal(token, ring=build_key_ring(SECRET))


def test_after_rotation_new_tokens_bear_the_new_key() -> None:
    token, claims = issued(build_key_ring(SECRET, OLD_SECRET))
    assert verify_access_token(build_key_ring(SECRET), token, NOW) == claims
    refusal(token, ring=build_key_ring(OLD_SECRET))


@pytest.mark.parametrize(
    ("named", "signing"), [(SECRET, OLD_SECRET), (OLD_SECRET, SECRET)], ids=["current", "previous"]
)
def test_a_kid_stands_for_its_own_key_only(named: str, signing: str) -> None:
    ring = build_key_ring(SECRET, OLD_SECRET)
    header = HEADER | {"kid": build_key_ring(named).current}
    refusal(signed(header, CLAIMS, signing.encode()), ring=ring)
    assert verify_access_token(ring, signed(header, CLAIMS, named.encode()), NOW)


def test_the_same_secret_twice_is_one_key() -> None:
    assert len(build_key_ring(SECRET, SECRET).keys) == 1


def test_the_kid_follows_from_the_key_and_does_not_tell_it() -> None:
    ring = build_key_ring(SECRET)
    assert ring.current == RING.current != build_key_ring(OLD_SECRET).current
    assert ring.keys == {ring.current: SECRET.encode()}
    assert SECRET not in repr(ring)


def test_a_key_ring_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        RING.keys["mine"] = b"x" * 32  # type: ignore[index]


WEAK = {
    "empty": "",
    "secret": "secret",
    "31 bytes": SECRET[:31],
    "one letter": "x" * 64,
    "seven letters": "abcdefg" * 9,
    "spaces": " " * 64,
    "changeme": "changeme-changeme-changeme-changeme",
    "change_this": "please-CHANGE_THIS-before-production-0123456789",
    "your secret": "your-secret-key-goes-here-0123456789abcdef",
    "jwt.io": "a-string-secret-at-least-256-bits-long",
    "jwt.io before": "your-256-bit-secret" * 2,
    "FastAPI's tutorial": "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "FastAPI's tutorial in capitals": "09D25E094FAA6CA2556C818166B7A9563B93F7099F6F0F4CAA6CF63B88E8D3E7",
    "PEM": ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode(),
    "OpenSSH": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 someone@somewhere",
}


@pytest.mark.parametrize("secret", WEAK.values(), ids=WEAK)
def test_a_weak_secret_stops_the_start_and_is_told_the_fix(secret: str) -> None:
    with pytest.raises(WeakSecretError) as caught:
        build_key_ring(secret)
    assert isinstance(caught.value, MLOpsError)
    assert str(caught.value).startswith("MLOPS_JWT_SECRET ")
    assert 'python -c "import secrets; print(secrets.token_urlsafe(48))"' in str(caught.value)
    assert len(secret) < 7 or secret not in str(caught.value)


@pytest.mark.parametrize(
    "secret", [secret for secret in WEAK.values() if secret], ids=[name for name in WEAK if WEAK[name]]
)
def test_a_weak_previous_secret_stops_the_start(secret: str) -> None:
    with pytest.raises(WeakSecretError, match=r"^MLOPS_JWT_PREVIOUS_SECRET .* Leave it empty\."):
        build_key_ring(SECRET, secret)


@pytest.mark.parametrize(
    "secret",
    [
        SECRET[:32],
        "ünïcödé-" * 4,
        "raw bytes \udcff\udc80 from the environment",
        f'"{SECRET}"',
        json.dumps(["a", "b", SECRET]),
        json.dumps({"kty": "oct", "k": b64(b"short"), "use": "sig"}),
        json.dumps({"keys": [{"kty": "oct", "k": b64(b"short")}]}),
        "1234567890" * 4,
    ],
    ids=["32 bytes", "not ASCII", "not UTF-8", "quoted", "JSON list", "JWK", "JWK set", "digits"],
)
def test_any_strong_secret_is_taken_as_the_bytes_it_is(secret: str) -> None:
    """python-jose alone would parse the JSON ones and then verify with `a`, or with `short`."""
    ring = build_key_ring(secret)
    token, claims = issued(ring)
    assert verify_access_token(ring, token, NOW) == claims
    for key in (b"a", b"b", b"short", SECRET.encode()[:31], b""):
        refusal(signed(HEADER | {"kid": ring.current}, CLAIMS, key), ring=ring)


def test_every_secret_of_the_advised_command_is_strong() -> None:
    for _ in range(200):
        assert build_key_ring(secrets.token_urlsafe(48), secrets.token_hex(32))
