"""The page without a browser, on the real API: what a person does is done to its widgets."""

import asyncio
import signal
from pathlib import Path

import pytest
from server import PASSWORD, ROW
from visits import opened, run, sign_in, until

from mlops_core.frontend import page as pages
from mlops_core.frontend.charts import explained_class, value_of
from mlops_core.frontend.page import Page


def is_hidden(widget):
    return "mlops-hidden" in widget._dom_classes


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(pages, "POLL_SECONDS", 0.1)


def test_a_visitor_sees_the_sign_in_and_nothing_else(served):
    async def work():
        page = Page(f"http://127.0.0.1:{served.port}")
        assert not is_hidden(page.sign_in.view)
        assert is_hidden(page._main)
        await page.close()

    run(work())


def test_a_wrong_password_is_said_plainly_and_leaves_no_password_behind(served):
    async def work():
        page = Page(f"http://127.0.0.1:{served.port}")
        sign_in(page, "ada", "wrong")
        assert page.sign_in.password.value == ""
        await page.settled()
        assert page.notice.title == "Name or password is not right."
        assert page.notice.reference
        assert not page.sign_in.button.disabled
        await page.close()

    run(work())


def test_who_guesses_is_told_how_long_to_wait(served):
    async def work():
        page = Page(f"http://127.0.0.1:{served.port}")
        for _ in range(7):
            sign_in(page, "nobody", "a guess")
            await page.settled()
        assert page.notice.title == "There were too many requests just now."
        assert "seconds" in page.notice.advice
        await page.close()

    run(work())


def test_an_account_that_may_not_predict_is_told_whom_to_ask(served):
    async def work():
        async with opened(served, "eve") as page:
            assert "may not ask for predictions" in page.notice.title
            assert "administrator" in page.notice.advice
            assert is_hidden(page._main)

    run(work())


def test_who_signs_in_sees_the_answer_to_an_example(served):
    async def work():
        async with opened(served) as page:
            assert page.notice is None
            assert is_hidden(page.sign_in.view)
            assert page.ask.answer["version"] == page.ask.model.version
            for plot in (page.ask.gauge, page.ask.reasons, page.ask.curve):
                assert plot.chart["data"]

    run(work())


def test_a_moved_slider_shows_what_the_service_says(served):
    async def work():
        async with opened(served) as page:
            page.ask.form.fields["amount"].slider.value = -40
            await page.settled()
            expected = (await page.api.predict([{**page.ask.model.example, "amount": -40}]))[0]
            label = explained_class(page.ask.model, page.ask.answer)
            assert value_of(page.ask.answer, label) == pytest.approx(value_of(expected, label), abs=1e-9)

    run(work())


def test_many_quick_changes_end_with_the_answer_to_the_last(served):
    async def work():
        async with opened(served) as page:
            for value in range(-40, 41):
                page.ask.form.fields["amount"].slider.value = value
                await asyncio.sleep(0.001)
            await page.settled()
            assert page.ask.row["amount"] == 40

    run(work())


def test_what_if_passes_through_the_answer(served):
    async def work():
        async with opened(served) as page:
            page.ask.varied.value = "amount"
            page.ask.form.fields["amount"].control.value = "7.25"
            await page.settled()
            curve, now = page.ask.curve.chart["data"][-2:]
            scale = 1 if page.ask.model.task == "regression" else 100
            label = explained_class(page.ask.model, page.ask.answer)
            assert now["x"] == [7.25]
            assert now["y"][0] == pytest.approx(value_of(page.ask.answer, label) * scale, abs=1e-6)
            assert now["y"][0] in curve["y"]

    run(work())


def test_a_wrong_entry_greys_the_answer_and_asks_nothing(served):
    async def work():
        async with opened(served) as page:
            before = page.ask.answer
            page.ask.form.fields["count"].control.value = "many"
            await page.settled()
            assert page.ask.answer is before
            assert "stale" in page.ask.words._dom_classes
            assert "Correct the marked fields" in page.ask.hint.value

    run(work())


def test_an_answer_that_stands_is_kept_in_the_history_once(served, monkeypatch):
    async def work():
        async with opened(served) as page:
            page.ask._settled.quiet_seconds = 0.05
            page.ask.form.fields["amount"].slider.value = 10
            await until(lambda: len(page.history.entries) == 1)
            page.ask.form.fields["amount"].slider.value = 20
            await until(lambda: len(page.history.entries) == 2)
            assert "10" in page.history._differences.value
            assert page.history._export.data.count(b"\n") == 3

    run(work())


def test_a_table_is_previewed_scored_and_taken_along(served):
    async def work():
        async with opened(served) as page:
            batch = page.batch
            batch.take("t.csv", b"at,amount,count,gate\n2013-05-06 07:08,1.5,3,A\n2013-05-06 07:08,1.5,99,A\n")
            assert not batch.button.disabled
            batch.button.click()
            await page.settled()
            assert "1 rows answered, 1 rejected" in batch.note.value
            assert "count" in batch.rejected.value
            assert batch.download.filename == "t_answers.csv"
            assert batch.download.data.count(b"\n") == 3
            assert batch.chart.chart["data"]

    run(work())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no rows"),
        (b"at,count\n", "holds no rows"),
        (b"at,amount\n2013-05-06,1\n", "lacks &#x27;count&#x27; and &#x27;gate&#x27;"),
        (b"at,count\n1,2,3\n", "Line 2 has 3 cells, the header 2"),
        (b"at;count\n1,5;2,5\n", "separated by &#x27;;&#x27; instead of commas"),
        (b"at|count\n1|2\n", "separated by &#x27;|&#x27; instead of commas"),
        ("at,gäte\n1,2\n".encode("latin-1"), "not UTF-8"),
        (b"PAR1 and then nothing", "damaged, or no Parquet"),
    ],
)
def test_a_file_that_cannot_be_scored_says_why_before_it_is_sent(served, content, said):
    async def work():
        async with opened(served) as page:
            page.batch.take("t.csv", content)
            assert said in page.batch.note.value
            assert page.batch.button.disabled

    run(work())


def test_signing_out_leaves_nothing_in_the_kernel(served):
    async def work():
        async with opened(served) as page:
            token = page.api._session.access
            await page.sign_out()
            assert (page.ask, page.batch, page.history.entries, page.api._session) == (None, None, [], None)
            assert page.sign_in.name.value == ""
            assert not is_hidden(page.sign_in.view)
            assert served.get("/auth/me", authorization=f"Bearer {token}").status == 401

    run(work())


async def type_while_the_session_ends(page):
    page.ask.form.fields["amount"].control.value = "33"
    await page.settled()
    await page.api._send("POST", "/auth/revoke", data={"token": page.api._session.refresh})
    page.ask.form.fields["count"].control.value = "7"
    await page.settled()


def test_an_ended_session_asks_to_sign_in_and_keeps_what_was_typed(served):
    async def work():
        async with opened(served) as page:
            await type_while_the_session_ends(page)
            assert page.notice.title == "Your session has ended."
            assert not is_hidden(page.sign_in.view)
            sign_in(page)
            await page.settled()
            assert page.notice is None
            assert (page.ask.row["amount"], page.ask.row["count"]) == (33.0, 7)

    run(work())


def test_who_signs_in_after_another_finds_nothing_of_his(served):
    async def work():
        async with opened(served) as page:
            await type_while_the_session_ends(page)
            sign_in(page, "root")
            await page.settled()
            assert page.ask.row["amount"] != 33.0

    run(work())


def test_a_service_that_goes_and_comes_back_is_waited_for(server):
    async def work():
        async with opened(server) as page:
            server.end(signal.SIGTERM)
            page.ask.form.fields["amount"].slider.value = 12
            await until(lambda: page.notice is not None)
            assert page.notice.title == "The prediction service cannot be reached."
            server.start()
            await until(lambda: page.notice is None and page.ask.row["amount"] == 12)

    run(work())


def test_a_fault_of_the_page_gives_a_reference_and_no_traceback(served, monkeypatch, caplog):
    async def work():
        async with opened(served) as page:
            monkeypatch.setattr(page.about, "show", broken)
            page.tabs.value = "Model"
            await page.settled()
            assert page.notice.title == "Something went wrong on this page."
            assert page.notice.reference in caplog.text
            assert "RuntimeError" not in page._alert.value

    run(work())


async def broken():
    raise RuntimeError("of the page")


def test_as_text_the_page_is_a_sentence(served):
    async def work():
        page = Page(f"http://127.0.0.1:{served.port}")
        assert repr(page.view) == "The page. Open it with: make app"
        await page.close()

    run(work())


def test_the_password_is_a_constant_of_the_tests_alone():
    source = Path(pages.__file__).parent
    assert not [path for path in source.rglob("*.py") if PASSWORD in path.read_text(encoding="utf-8")]
    assert ROW
