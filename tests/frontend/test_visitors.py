"""What people do on the page, done in real Chromium, Voilà and API: to a small model, and to the flights' champion."""

import csv
import io
import json
import signal

import pytest
from browser import CHROMIUM, HEAD, bearer
from champions import flights, model_of, small, titles_of
from server import PASSWORD, Running
from visits import add_accounts, make_project

from mlops_core.frontend.facts import Model, percent

if CHROMIUM is None:
    pytest.skip("there is no Chromium on this machine", allow_module_level=True)

FIRST = "document.querySelector('.mlops-plot tbody td:nth-child(2)').textContent"
# A step after the other goes to the service; the text has followed the last one when it stands where the slider does.
FOLLOWED = "([slider, text]) => Math.abs(slider.getAttribute('aria-valuenow') - text.value) < 0.06"


@pytest.fixture(scope="module", params=["small", pytest.param("flights", marks=pytest.mark.slow)])
def champion(request, tmp_path_factory, bundles):
    if request.param == "small":
        return small(make_project(tmp_path_factory.mktemp("visitors") / "project", bundles["binary"]))
    finished, _ = request.getfixturevalue("finished")
    root = request.getfixturevalue("copier")(finished).root
    add_accounts(root)
    return flights(root)


@pytest.fixture(scope="module")
def api(champion):
    with champion.served() as started:
        yield started


@pytest.fixture(scope="module")
def model(api: Running):
    return model_of(api)


@pytest.fixture(scope="module")
def titles(model: Model):
    return titles_of(model)


@pytest.fixture
def number(visit, champion, titles):
    """The field to type a number into."""
    return visit.page.get_by_role("textbox", name=titles[champion.number])


def test_a_wrong_password_is_refused_and_a_right_one_shows_an_answer(visit, model):
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
    assert visit.page.title() == model.title


def test_the_form_shows_the_example_to_the_digit(visit, champion, model, titles):
    visit.open().sign_in().answered().unfold()
    visit.page.wait_for_timeout(500)  # in which a slider would have come to rest on a step of its own
    for name in (champion.slider, champion.number):
        shown = visit.page.get_by_role("textbox", name=titles[name]).input_value()
        assert float(shown) == pytest.approx(model.example[name])


def test_a_moved_slider_changes_the_number_to_what_the_service_says(visit, api: Running, champion, model, titles):
    visit.open().sign_in().answered().unfold()
    first = model.classes[0]
    before = visit.numbers()[first]
    slider = visit.page.get_by_role("slider", name=titles[champion.slider])
    slider.focus()
    for _ in range(12):
        slider.press("ArrowRight")
    moved = visit.page.get_by_role("textbox", name=titles[champion.slider])
    visit.page.wait_for_function(FOLLOWED, arg=[slider.element_handle(), moved.element_handle()])
    visit.page.wait_for_function(f"before => {FIRST} != before", arg=before)
    row = {**model.example, champion.slider: float(moved.input_value())}
    answer = json.loads(api.predict([row]).body)["predictions"][0]
    visit.page.wait_for_function(f"expected => {FIRST} == expected", arg=percent(answer["probabilities"][first]))


def test_what_if_is_asked_of_another_column(visit, champion, model):
    visit.open().sign_in().answered()
    (column,) = [column for column in model.columns if column.name == champion.choice]
    visit.page.get_by_label("What if it were different:").select_option(label=column.label or column.name)
    curve = visit.page.locator(".mlops-ask .mlops-plot").nth(2)
    curve.locator("th", has_text=column.label or column.name).wait_for(state="attached")
    assert set(visit.numbers(2)) >= {column.show_category(value) for value in column.categories}


def test_a_table_goes_in_and_comes_back_with_answers(visit, champion, tmp_path):
    visit.open().sign_in().answered()
    visit.tab("Table")
    with visit.page.expect_download() as sample:
        visit.page.get_by_role("button", name="Download a sample").click()
    rows = list(csv.DictReader(io.StringIO(sample.value.path().read_text(encoding="utf-8"))))
    rows.append({**rows[0], champion.strict: "Z"})
    with (tmp_path / "mine.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    visit.page.get_by_label("Choose a table").set_input_files(tmp_path / "mine.csv")
    visit.page.get_by_text(f"mine.csv: {len(rows)} rows").wait_for()
    visit.page.get_by_role("button", name="Get the answers").click()
    visit.page.get_by_text(f"{len(rows) - 1} rows answered, 1 rejected.").wait_for()
    visit.page.get_by_role("region", name="Rejected rows").get_by_text(champion.strict).first.wait_for()
    with visit.page.expect_download() as answers:
        visit.page.get_by_role("button", name="Download the answers").click()
    assert answers.value.suggested_filename == "mine_answers.csv"
    found = list(csv.DictReader(io.StringIO(answers.value.path().read_text(encoding="utf-8"))))
    assert [bool(row["reason"]) for row in found] == [False] * (len(rows) - 1) + [True]


def test_after_signing_out_there_is_nothing_to_see(visit):
    visit.open().sign_in().answered()
    visit.page.get_by_role("button", name="Sign out").click()
    visit.page.get_by_role("button", name="Sign in").wait_for()
    assert visit.page.locator(HEAD).count() == 0
    assert visit.page.get_by_label("Name").input_value() == ""


def test_an_ended_session_leads_back_with_everything_typed(visit, api: Running, number):
    visit.open().sign_in().answered()
    number.fill("11")
    visit.page.locator(".mlops-words.stale").wait_for(state="detached")
    users = json.loads(api.get("/admin/users", **bearer(api, "root")).body)["users"]
    ada = next(user["id"] for user in users if user["name"] == "ada")
    for enabled in (b'{"enabled": false}', b'{"enabled": true}'):
        assert api.request("PATCH", f"/admin/users/{ada}", enabled, **bearer(api, "root")).status == 200
    api._tokens.clear()
    number.fill("12")
    visit.page.get_by_text("Your session has ended.").wait_for()
    visit.sign_in().answered()
    assert number.input_value() == "12"


def test_a_service_that_stops_is_waited_for(visit, api: Running, number):
    visit.open().sign_in().answered()
    api.end(signal.SIGTERM)
    number.fill("13")
    alert = visit.page.get_by_role("alert")
    alert.filter(has_text="cannot be reached").wait_for()
    api.start()
    alert.wait_for(state="detached")
    visit.page.locator(".mlops-words.stale").wait_for(state="detached")
    assert number.input_value() == "13"
