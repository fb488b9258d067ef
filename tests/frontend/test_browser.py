"""The page as people use it: real Chromium, real Voilà, real API."""

import csv
import io
import json
import signal

import pytest
from browser import CHROMIUM, HEAD, Visit, bearer, chromium, voila
from server import PASSWORD, Running, running
from visits import make_project, running_again

from mlops_core.frontend.facts import percent

if CHROMIUM is None:
    pytest.skip("there is no Chromium on this machine", allow_module_level=True)

FIRST = "document.querySelector('.mlops-plot tbody td:nth-child(2)').textContent"
NAME = "e => e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def api(tmp_path_factory, bundles):
    """An API whose accounts a test may change and change back."""
    with running(make_project(tmp_path_factory.mktemp("browser") / "project", bundles["binary"])) as started:
        yield started


@pytest.fixture(scope="module")
def address(api):
    with voila(f"http://127.0.0.1:{api.port}") as address:
        yield address


@pytest.fixture
def visit(browser, address):
    made = Visit(browser, address)
    yield made
    made.close()
    assert made.foreign == []
    assert made.complaints == []


def test_the_curtain_is_there_before_the_page_and_says_what_is_going_on(visit):
    visit.page.goto(visit.address, wait_until="commit")
    visit.page.get_by_role("status").filter(has_text="Preparing your page").wait_for()
    visit.page.locator("#loading").wait_for(state="detached")
    assert visit.page.get_by_role("button", name="Sign in").is_visible()


def test_a_wrong_password_is_refused_and_a_right_one_shows_an_answer(visit):
    visit.open().sign_in(password="wrong")
    alert = visit.page.get_by_role("alert")
    alert.wait_for()
    assert "Name or password is not right." in alert.inner_text()
    assert "Reference" in alert.inner_text()
    password = visit.page.get_by_label("Password")
    assert (password.get_attribute("type"), password.input_value()) == ("password", "")
    password.fill(PASSWORD)
    password.press("Enter")
    visit.answered()
    assert alert.count() == 0
    assert visit.page.title() == "A small table"


def test_the_form_shows_the_example_to_the_digit(visit, api: Running):
    visit.open().sign_in().answered()
    example = json.loads(api.get("/v1/model", **bearer(api, "ada")).body)["example"]
    visit.page.wait_for_timeout(500)  # in which a slider would have come to rest on a step of its own
    for name, label in {"amount": "amount (kg)", "count": "count"}.items():
        assert float(visit.page.get_by_role("textbox", name=label).input_value()) == pytest.approx(example[name])


def test_a_moved_slider_changes_the_number_to_what_the_service_says(visit, api: Running):
    visit.open().sign_in().answered()
    before = visit.numbers()
    slider = visit.page.get_by_role("slider", name="amount (kg)")
    slider.focus()
    for _ in range(12):
        slider.press("ArrowRight")
    amount = visit.page.get_by_role("textbox", name="amount (kg)")
    visit.page.wait_for_function(f"before => {FIRST} != before", arg=before["no"])
    example = json.loads(api.get("/v1/model", **bearer(api, "ada")).body)["example"]
    row = {**example, "amount": float(amount.input_value())}
    answer = json.loads(api.predict([row]).body)["predictions"][0]
    visit.page.wait_for_function(f"expected => {FIRST} == expected", arg=percent(answer["probabilities"]["no"]))


def test_what_if_is_asked_of_another_column(visit):
    visit.open().sign_in().answered()
    visit.page.get_by_label("What if it were different:").select_option(label="kind")
    curve = visit.page.locator(".mlops-ask .mlops-plot").nth(2)
    curve.locator("th", has_text="kind").wait_for(state="attached")
    assert set(visit.numbers(2)) >= {"u", "v", "w"}


def test_a_wrong_entry_is_marked_and_a_right_one_takes_the_mark_away(visit):
    visit.open().sign_in().answered()
    count = visit.page.get_by_role("textbox", name="count")
    count.fill("many")
    visit.page.get_by_text("is not a number").wait_for()
    count.fill("7")
    visit.page.get_by_text("is not a number").wait_for(state="detached")
    visit.page.locator(".mlops-words.stale").wait_for(state="detached")


def test_a_value_that_training_never_saw_is_answered_and_marked(visit):
    visit.open().sign_in().answered()
    visit.page.get_by_role("textbox", name="amount (kg)").fill("99.5")
    visit.page.get_by_text("Outside what the model has seen: amount.").wait_for()


def test_a_table_goes_in_and_comes_back_with_answers(visit, tmp_path):
    visit.open().sign_in().answered()
    visit.tab("Table")
    with visit.page.expect_download() as sample:
        visit.page.get_by_role("button", name="Download a sample").click()
    lines = sample.value.path().read_text(encoding="utf-8").splitlines()
    file = tmp_path / "mine.csv"
    file.write_text("\n".join([*lines, lines[1].replace(",A,", ",Z,")]), encoding="utf-8")
    visit.page.get_by_label("Choose a table").set_input_files(file)
    visit.page.get_by_text(f"mine.csv: {len(lines)} rows").wait_for()
    visit.page.get_by_role("button", name="Get the answers").click()
    visit.page.get_by_text(f"{len(lines) - 1} rows answered, 1 rejected.").wait_for()
    visit.page.get_by_role("region", name="Rejected rows").get_by_text("gate").wait_for()
    with visit.page.expect_download() as answers:
        visit.page.get_by_role("button", name="Download the answers").click()
    assert answers.value.suggested_filename == "mine_answers.csv"
    rows = list(csv.DictReader(io.StringIO(answers.value.path().read_text(encoding="utf-8"))))
    assert len(rows) == len(lines)
    assert [bool(row["reason"]) for row in rows] == [False] * (len(lines) - 1) + [True]


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(visit, tmp_path):
    file = tmp_path / "large.csv"
    file.write_bytes(b"a\n" + b"1\n" * 5_100_000)
    visit.open().sign_in().answered()
    visit.tab("Table")
    visit.page.get_by_label("Choose a table").set_input_files(file)
    visit.page.get_by_text("this page takes 10 MB").wait_for()


def test_answers_that_stand_are_kept_and_compared(visit):
    visit.open().sign_in().answered()
    visit.page.wait_for_timeout(1700)  # as long as somebody looks at an answer
    visit.page.get_by_role("textbox", name="count").fill("9")
    visit.page.wait_for_timeout(1900)
    visit.tab("History")
    visit.page.get_by_text("2 answers of this session").wait_for()
    visit.page.get_by_role("region", name="What differs between the two").get_by_text("count").wait_for()
    with visit.page.expect_download() as history:
        visit.page.get_by_role("button", name="Download as CSV").click()
    assert history.value.path().read_text(encoding="utf-8").count("\n") == 3


def test_after_signing_out_there_is_nothing_to_see(visit):
    visit.open().sign_in().answered()
    visit.page.get_by_role("button", name="Sign out").click()
    visit.page.get_by_role("button", name="Sign in").wait_for()
    assert visit.page.locator(HEAD).count() == 0
    assert visit.page.get_by_label("Name").input_value() == ""


def test_an_ended_session_leads_back_with_everything_typed(visit, api: Running):
    visit.open().sign_in().answered()
    visit.page.get_by_role("textbox", name="count").fill("11")
    visit.page.locator(".mlops-words.stale").wait_for(state="detached")
    users = json.loads(api.get("/admin/users", **bearer(api, "root")).body)["users"]
    ada = next(user["id"] for user in users if user["name"] == "ada")
    for enabled in (b'{"enabled": false}', b'{"enabled": true}'):
        assert api.request("PATCH", f"/admin/users/{ada}", enabled, **bearer(api, "root")).status == 200
    api._tokens.clear()
    visit.page.get_by_role("textbox", name="count").fill("12")
    visit.page.get_by_text("Your session has ended.").wait_for()
    visit.sign_in().answered()
    assert visit.page.get_by_role("textbox", name="count").input_value() == "12"


def test_everything_can_be_done_with_the_keyboard(visit):
    visit.open()
    keys, page = visit.page.keyboard, visit.page
    page.get_by_label("Name").focus()
    keys.type("ada")
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    visit.answered()
    seen = set()
    for _ in range(60):
        keys.press("Tab")
        seen.add(page.evaluate(f"({NAME})(document.activeElement)").strip())
    tabs, fields = {"Ask", "Table", "History", "Model"}, {"amount (kg)", "count", "kind", "gate", "open"}
    assert tabs | fields | {"Sign out", "Numbers"} <= seen


def test_light_and_dark_can_be_chosen_and_stay_chosen(visit):
    visit.open()
    before = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    visit.page.get_by_role("button", name="Light or dark").click()
    after = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert after != before
    visit.open()
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == after


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_tab(browser, address, scheme):
    from axe_playwright_python.sync_playwright import Axe

    visit = Visit(browser, address, color_scheme=scheme, bypass_csp=True)  # axe is put into the page
    found = []

    def look(where):
        broken = Axe().run(visit.page).response["violations"]
        found.extend((where, item["id"], item["impact"], item["nodes"][0]["html"][:200]) for item in broken)

    visit.open()
    look("sign-in")
    visit.sign_in(password="wrong").page.get_by_role("alert").wait_for()
    look("notice")
    visit.sign_in().answered()
    for tab in ("Ask", "Table", "History", "Model"):
        visit.tab(tab)
        visit.page.wait_for_timeout(300)
        look(tab)
    visit.close()
    assert found == []


def test_a_phone_shows_the_answer_first_and_never_scrolls_sideways(browser, address):
    visit = Visit(browser, address, viewport={"width": 390, "height": 844}, has_touch=True).open().sign_in().answered()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert visit.page.locator(HEAD).bounding_box()["y"] < 844
    visit.close()


def test_a_service_that_stops_is_waited_for(browser, server: Running):
    with voila(f"http://127.0.0.1:{server.port}") as address:
        visit = Visit(browser, address).open().sign_in().answered()
        server.end(signal.SIGTERM)
        visit.page.get_by_role("textbox", name="count").fill("13")
        alert = visit.page.get_by_role("alert")
        alert.filter(has_text="cannot be reached").wait_for()
        with running_again(server):
            alert.wait_for(state="detached")
            visit.page.locator(".mlops-words.stale").wait_for(state="detached")
            assert visit.page.get_by_role("textbox", name="count").input_value() == "13"
        assert visit.complaints == []
        visit.close()


def test_every_kind_of_model_has_its_page(browser, served: Running):
    with voila(f"http://127.0.0.1:{served.port}") as address:
        visit = Visit(browser, address).open().sign_in().answered()
        model = json.loads(served.get("/v1/model", **bearer(served, "ada")).body)
        for column in model["columns"]:
            label = f"{column['label']} ({column['unit']})" if column["unit"] else column["label"]
            assert visit.page.get_by_label(label, exact=True).first.is_visible()
        assert set(visit.numbers()) == set(model["classes"] or ["value", "lowest", "highest"])
        visit.tab("Model")
        visit.page.get_by_text("What it looks at").wait_for()
        assert visit.complaints == []
        visit.close()
