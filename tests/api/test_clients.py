"""Programs log in with `grant_type=client_credentials`: by HTTP Basic or in the form, guarded as people are."""

import base64
from asyncio import run
from typing import Any
from urllib.parse import quote_plus

import pytest
from service import PASSWORD, Service, problem

from api.accounts import change_user, create_user

HARD = "Gepäck: 100% + 7 = ½ Förderband"
WRONG = "wrong horse walks home"
GRANT = {"grant_type": "client_credentials"}


def basic(name: str, secret: str, encode: Any = quote_plus) -> dict[str, str]:
    """As Prometheus, and RFC 6749, write it: each part is form-encoded first."""
    return {"Authorization": "Basic " + base64.b64encode(f"{encode(name)}:{encode(secret)}".encode()).decode()}


def ask(service: Service, headers: dict[str, str] | None = None, **form: str) -> Any:
    return service.client.post("/auth/token", data={**GRANT, **form}, headers=headers or {})


def in_form(name: str, secret: str) -> dict[str, str]:
    return {"client_id": name, "client_secret": secret}


@pytest.fixture
def machine(service: Service) -> str:
    """The id of an account for a program."""
    return service.account("prometheus", "monitor", "predict")


@pytest.mark.parametrize("way", ["basic", "form"])
def test_a_program_gets_an_access_token_and_nothing_to_refresh(service: Service, machine: str, way: str) -> None:
    by_header = way == "basic"
    answer = ask(
        service,
        basic("prometheus", PASSWORD) if by_header else None,
        **({} if by_header else in_form("prometheus", PASSWORD)),
    )
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert 0 < body["expires_in"] <= 900
    headers = {"Authorization": f"Bearer {body['access_token']}"}
    assert service.client.get("/metrics", headers=headers).status_code == 200
    assert service.client.get("/auth/me", headers=headers).json()["id"] == machine


def test_the_scheme_is_read_in_any_case_and_the_id_may_stand_in_the_form_too(service: Service, machine: str) -> None:
    header = basic("prometheus", PASSWORD)["Authorization"].replace("Basic", "bASIC")
    assert ask(service, {"Authorization": header}, client_id="prometheus").status_code == 200


@pytest.mark.parametrize("way", ["basic", "form"])
def test_a_secret_of_any_letters_arrives_as_it_is(service: Service, way: str) -> None:
    run(create_user(service.engine, "odd+name@host", HARD, ["monitor"]))
    answer = (
        ask(service, basic("odd+name@host", HARD)) if way == "basic" else ask(service, **in_form("odd+name@host", HARD))
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("asked", "granted"), [("", "monitor predict"), ("monitor", "monitor"), ("monitor admin", "monitor")]
)
def test_a_program_may_ask_for_less_and_never_gets_more(
    service: Service, machine: str, asked: str, granted: str
) -> None:
    body = ask(service, basic("prometheus", PASSWORD), scope=asked).json()
    assert body["scope"] == granted
    if asked == "monitor":
        response = service.client.get("/v1/model", headers={"Authorization": f"Bearer {body['access_token']}"})
        problem(response, 403)


def test_a_scope_that_the_account_lacks_is_named_as_oauth_names_it(service: Service, machine: str) -> None:
    assert problem(ask(service, basic("prometheus", PASSWORD), scope="admin"), 400)["error"] == "invalid_scope"


@pytest.mark.parametrize("way", ["basic", "form"])
def test_unknown_wrong_and_disabled_are_one_answer(service: Service, machine: str, way: str) -> None:
    change_user(service.engine, service.account("asleep", "monitor"), enabled=False)
    found = []
    for name, secret in (("nobody", PASSWORD), ("prometheus", WRONG), ("asleep", PASSWORD)):
        answer = ask(service, basic(name, secret)) if way == "basic" else ask(service, **in_form(name, secret))
        body = problem(answer, 401)
        assert answer.headers["www-authenticate"].split()[0] == ("Basic" if way == "basic" else "Bearer")
        found.append({key: value for key, value in body.items() if key != "request_id"})
    assert found[0] == found[1] == found[2]
    assert found[0]["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        (basic("prometheus", PASSWORD), in_form("prometheus", PASSWORD)),
        (basic("prometheus", PASSWORD), {"client_secret": PASSWORD}),
        (basic("prometheus", PASSWORD), {"client_id": "root"}),
        ([*basic("prometheus", PASSWORD).items(), *basic("root", PASSWORD).items()], {}),
    ],
)
def test_credentials_in_two_places_are_not_read(service: Service, machine: str, headers: Any, form: Any) -> None:
    answer = service.client.post("/auth/token", data={**GRANT, **form}, headers=headers)
    assert problem(answer, 400)["error"] == "invalid_request"


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Basic cHJvbWV0aGV1cw",  # not padded
        "Basic " + base64.b64encode(b"prometheus").decode(),
        "Basic " + base64.b64encode(b"prometheus:").decode(),
        "Basic " + base64.b64encode(b":secret").decode(),
        "Basic " + base64.b64encode(b"pro%00metheus:secret").decode(),
        "Basic " + base64.b64encode(b"prometheus:%ED%A0%80").decode(),
        "Basic " + base64.b64encode(b"prometheus:\xff").decode(),
        "Basic " + base64.b64encode(b"a" * 2049 + b":secret").decode(),
        "Bearer x.y.z",
        "Digest username=prometheus",
    ],
)
def test_a_header_that_names_no_client_is_refused_with_the_way_to_do_it(
    service: Service, machine: str, header: str
) -> None:
    answer = ask(service, {"Authorization": header})
    assert problem(answer, 401)["error"] == "invalid_client"
    assert answer.headers["www-authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("form", [{}, {"client_id": "prometheus"}, {"client_secret": PASSWORD}, {"username": "ada"}])
def test_no_credentials_are_not_valid_ones(service: Service, machine: str, form: dict[str, str]) -> None:
    assert problem(ask(service, **form), 401)["error"] == "invalid_client"


def test_the_sixth_failure_is_throttled_however_they_are_spread(service: Service, machine: str) -> None:
    for attempt in range(5):
        if attempt % 2:
            problem(service.login("prometheus", WRONG), 401)
        else:
            problem(ask(service, basic("PROMETHEUS", WRONG)), 401)
    answer = ask(service, **in_form("prometheus", WRONG))
    problem(answer, 429)
    assert 0 < int(answer.headers["retry-after"]) <= 900
    problem(ask(service, basic("prometheus", PASSWORD)), 429)


def test_an_administrator_ends_the_sessions_of_programs_as_those_of_people(service: Service, machine: str) -> None:
    token = ask(service, basic("prometheus", PASSWORD)).json()["access_token"]
    headers, root = {"Authorization": f"Bearer {token}"}, service.bearer("root")
    assert service.client.get("/metrics", headers=headers).status_code == 200
    answer = service.client.patch(f"/admin/users/{machine}", json={"end_sessions": True}, headers=root)
    assert answer.status_code == 200
    problem(service.client.get("/metrics", headers=headers), 401)


def test_a_program_ends_its_own_session(service: Service, machine: str) -> None:
    token = ask(service, basic("prometheus", PASSWORD)).json()["access_token"]
    assert service.client.post("/auth/revoke", data={"token": token}).status_code == 200
    problem(service.client.get("/metrics", headers={"Authorization": f"Bearer {token}"}), 401)


def test_people_log_in_as_before_whatever_a_client_says_beside(service: Service) -> None:
    """Swagger's page names itself when it sends a person's password."""
    form = {"grant_type": "password", "username": "ada", "password": PASSWORD, "client_id": "page"}
    answer = service.client.post("/auth/token", data=form, headers=basic("page", "nothing"))
    assert answer.status_code == 200
    assert answer.json()["refresh_token"]
