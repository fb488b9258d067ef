"""Every role meets every operation of the document, and gets in exactly where the document says so."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pwdlib import PasswordHash
from service import CHEAP, Service, problem, starting

from api import passwords
from api.accounts import change_user
from api.app import routes_of
from api.operations import OPERATIONS

ROLES = {
    "anonymous": frozenset[str](),
    "nobody": frozenset(["predict", "monitor"]),  # see below: all its scopes do not help a disabled account
    "predict": frozenset(["predict"]),
    "monitor": frozenset(["monitor"]),
    "admin": frozenset(["admin"]),
}
OPEN = {("POST", "/auth/token"), ("POST", "/auth/revoke"), ("GET", "/livez"), ("GET", "/readyz")}
HIDDEN_AND_OPEN = {("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/docs/{name}")}


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory, bundles: dict[str, Path]) -> Iterator[tuple[Service, Any]]:
    """A service, and the Authorization header of each role; nothing that passes the gate changes any of them."""
    with pytest.MonkeyPatch.context() as patch, starting(tmp_path_factory.mktemp("matrix"), bundles) as start:
        patch.setattr(passwords, "HASHER", PasswordHash((CHEAP,)))
        service: Service = start()
        service.account("keeper", "admin")
        headers: dict[str, dict[str, str]] = {"anonymous": {}}
        for role in ("nobody", "predict", "monitor", "admin"):
            user = service.account(role, *ROLES[role])
            headers[role] = service.bearer(role)
            if role == "nobody":
                change_user(service.engine, user, enabled=False)
        yield service, headers


def expected(role: str, security: list[dict[str, list[str]]]) -> int | None:
    """401, 403, or None for whoever gets in."""
    if not security:
        return None
    if role in ("anonymous", "nobody"):
        return 401
    needed = {scope for item in security for scopes in item.values() for scope in scopes}
    return None if needed <= ROLES[role] else 403


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_each_role_gets_in_where_the_document_says(
    matrix: tuple[Service, Any], role: str, method: str, path: str
) -> None:
    service, headers = matrix
    operation = service.client.get("/openapi.json").json()["paths"][path][method.lower()]
    # Without a body nothing is changed, and whoever got in is told so.
    address = path.replace("{user_id}", "00000000-0000-0000-0000-000000000000")
    response = service.client.request(method, address, headers=headers[role])
    wanted = expected(role, operation["security"])
    assert str(response.status_code) in operation["responses"]
    if wanted is None:
        assert response.status_code not in (401, 403)
        return
    problem(response, wanted)
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith("Bearer")
    assert ("insufficient_scope" in challenge) == (wanted == 403)


def test_a_strangers_body_is_not_even_parsed(matrix: tuple[Service, Any]) -> None:
    service, headers = matrix
    for method, path in set(OPERATIONS) - OPEN:
        for role, status in (("anonymous", 401), ("nobody", 401)):
            sent = {**headers[role], "content-type": "application/json"}
            response = service.client.request(method, path, content=b"{", headers=sent)
            assert response.status_code == status, (method, path)


def test_only_these_operations_are_open(matrix: tuple[Service, Any]) -> None:
    paths = matrix[0].client.get("/openapi.json").json()["paths"]
    found = {
        (m.upper(), path) for path, item in paths.items() for m, operation in item.items() if not operation["security"]
    }
    assert found == OPEN


def test_every_route_is_in_the_matrix_or_on_a_list(matrix: tuple[Service, Any]) -> None:
    routes = routes_of(matrix[0].client.app)  # type: ignore[arg-type]
    assert routes == set(OPERATIONS) | HIDDEN_AND_OPEN


@pytest.mark.parametrize("path", sorted({path for _, path in OPERATIONS}))
def test_other_methods_are_refused_and_the_right_ones_named(serve: Callable[..., Service], path: str) -> None:
    service = serve()
    allowed = {method for method, known in OPERATIONS if known == path}
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"):
        if method not in allowed:
            response = service.client.request(method, path.replace("{user_id}", "x"))
            assert response.status_code == 405, method
            assert response.headers["content-type"] == "application/problem+json"
            assert set(response.headers["allow"].split(", ")) == allowed


def test_every_answer_may_not_be_kept_sniffed_or_framed(matrix: tuple[Service, Any]) -> None:
    service, headers = matrix
    for method, path in OPERATIONS:
        answer = service.client.request(method, path.replace("{user_id}", "x"), headers=headers["predict"])
        assert answer.headers["cache-control"] == "no-store", path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
