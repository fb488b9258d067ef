"""How the page looks and feels in real Chromium, Voilà and API: keys, phones, colours, and what is unusual."""

import json

import pytest
from browser import CHROMIUM, HEAD, Visit, bearer, voila
from server import PASSWORD, Running, running
from visits import make_project

if CHROMIUM is None:
    pytest.skip("there is no Chromium on this machine", allow_module_level=True)

NAME = "e => e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent"


@pytest.fixture(scope="module")
def api(tmp_path_factory, bundles):
    """An API; leave it as it is."""
    with running(make_project(tmp_path_factory.mktemp("browser") / "project", bundles["binary"])) as started:
        yield started


def test_the_curtain_is_there_before_the_page_and_says_what_is_going_on(visit):
    visit.page.goto(visit.address, wait_until="commit")
    visit.page.get_by_role("status").filter(has_text="Preparing your page").wait_for()
    visit.page.locator("#loading").wait_for(state="detached")
    assert visit.page.get_by_role("button", name="Sign in").is_visible()


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
