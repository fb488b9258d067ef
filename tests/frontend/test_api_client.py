import asyncio
import socket

import pytest
from server import PASSWORD, ROW
from visits import run

from mlops_core.frontend.client import API_URL, Api, ApiError, api_url


def api_of(server):
    return Api(f"http://127.0.0.1:{server.port}")


async def kind_of(work):
    with pytest.raises(ApiError) as caught:
        await work
    return caught.value


def test_the_address_comes_from_the_environment_or_is_what_make_serve_uses(monkeypatch):
    monkeypatch.delenv("MLOPS_API_URL", raising=False)
    assert api_url() == API_URL
    monkeypatch.setenv("MLOPS_API_URL", "http://api:8000/")
    assert api_url() == "http://api:8000"


def test_a_wrong_password_an_account_without_the_scope_and_a_visitor_are_told_apart(served):
    async def work():
        api = api_of(served)
        assert (await kind_of(api.sign_in("ada", "wrong"))).kind == "refused"
        assert (await kind_of(api.sign_in("eve", PASSWORD))).kind == "forbidden"
        assert (await kind_of(api.model())).kind == "signed out"
        assert api.user == ""
        await api.close()

    run(work())


def test_who_is_signed_in_gets_the_model_its_answers_and_their_reasons(served):
    async def work():
        api = api_of(served)
        await api.sign_in("ada", PASSWORD)
        model = await api.model()
        answer = await api.explain(model["example"])
        assert answer["version"] == model["version"]
        assert set(answer["contributions"]) == {column["name"] for column in model["columns"]}
        assert len(await api.predict([ROW, ROW])) == 2
        await api.close()

    run(work())


def test_a_wrong_row_says_where(served):
    async def work():
        api = api_of(served)
        await api.sign_in("ada", PASSWORD)
        error = await kind_of(api.explain({**ROW, "amount": 1e9}))
        assert error.kind == "invalid"
        assert list(error.fields) == ["/instances/0/amount"]
        assert error.reference
        await api.close()

    run(work())


def test_after_signing_out_the_token_is_worth_nothing(served):
    async def work():
        api = api_of(served)
        await api.sign_in("ada", PASSWORD)
        token = api._session.access
        await api.sign_out()
        assert (api.user, api._session) == ("", None)
        assert served.get("/auth/me", authorization=f"Bearer {token}").status == 401
        await api.close()

    run(work())


def test_an_expired_token_is_renewed_once_however_many_ask(served):
    async def work():
        api = api_of(served)
        await api.sign_in("ada", PASSWORD)
        before = api._session
        before.renew_at = 0.0
        await asyncio.gather(*(api.predict([ROW]) for _ in range(8)))
        assert api._session is not before
        assert api._session.renew_at > 0
        await api.close()

    run(work())


def test_a_token_that_the_service_no_longer_takes_is_renewed(served):
    async def work():
        api = api_of(served)
        await api.sign_in("ada", PASSWORD)
        api._session.access = "no.longer.valid"
        assert await api.predict([ROW])
        await api.close()

    run(work())


def test_a_session_that_was_ended_is_over(served):
    async def work():
        api = api_of(served)
        await api.sign_in("ada", PASSWORD)
        await api._send("POST", "/auth/revoke", data={"token": api._session.refresh})
        assert (await kind_of(api.predict([ROW]))).kind == "signed out"
        assert api.user == ""
        await api.close()

    run(work())


def test_a_table_comes_back_scored(served):
    async def work():
        api = api_of(served)
        await api.sign_in("ada", PASSWORD)
        names = ["at", "amount", "count", "gate"]
        text = ",".join(names) + "\n2013-05-06 07:08,1.5,3,A\n2013-05-06 07:08,x,3,A\n"
        lines = (await api.score_file(text.encode(), "text/csv")).decode().splitlines()
        assert len(lines) == 3
        assert "amount" in lines[2]
        await api.close()

    run(work())


def test_nobody_there_is_down_and_nobody_answering_is_slow(monkeypatch):
    async def work():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            api = Api(f"http://127.0.0.1:{silent.getsockname()[1]}")
            api._http.timeout = 0.2
            assert (await kind_of(api.sign_in("ada", PASSWORD))).kind == "slow"
            await api.close()
        api = Api(api.url)
        assert (await kind_of(api.sign_in("ada", PASSWORD))).kind == "down"
        assert not await api.is_ready()
        await api.close()

    run(work())


def test_a_proxy_of_the_environment_is_not_asked(served, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    async def work():
        api = api_of(served)
        assert await api.is_ready()
        await api.close()

    run(work())
