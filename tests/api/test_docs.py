"""The page for people works without a network, under a policy that allows no foreign and no inline code."""

import re
from collections.abc import Callable

import pytest
from service import Service, problem

from api.routes.docs import STATIC


def test_the_page_asks_for_nothing_that_is_not_served_here(service: Service) -> None:
    page = service.client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "://" not in page.text
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|<style", page.text)
    wanted = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"docs/start.js", *(f"docs/{name}" for name in STATIC)} <= set(wanted)
    for address in wanted:
        assert service.client.get(f"/{address}").status_code == 200


def test_the_policy_allows_our_own_files_only(service: Service) -> None:
    policy = service.client.get("/docs").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", ["nothing.js", "..%2fcore.py", "redoc.standalone.js", "%00"])
def test_no_other_file_is_served(service: Service, name: str) -> None:
    problem(service.client.get(f"/docs/{name}"), 404)


def test_tokens_are_asked_for_where_the_page_came_from(service: Service) -> None:
    flow = service.client.get("/openapi.json").json()["components"]["securitySchemes"]["OAuth2"]["flows"]["password"]
    assert flow["tokenUrl"] == "/auth/token"
    assert set(flow["scopes"]) == {"predict", "monitor", "admin"}


@pytest.mark.parametrize(
    ("env", "docs", "status"),
    [("local", None, 200), ("local", False, 404), ("production", None, 404), ("production", True, 200)],
)
def test_production_shows_no_documentation_unless_told_to(
    serve: Callable[..., Service], tmp_path: str, env: str, docs: bool | None, status: int
) -> None:
    url = f"sqlite:///{tmp_path}/accounts.db"
    service = serve(settings={"env": env, "docs": docs, "database_url": url})
    for path in ("/docs", "/docs/start.js", "/openapi.json"):
        assert service.client.get(path).status_code == status
