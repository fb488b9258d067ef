import re

import pytest
from tables import make_table

from mlops_core.profile import render_profile


@pytest.fixture(scope="module")
def page():
    return render_profile(make_table(rows=60), "A small table")


def test_the_same_table_gives_the_same_bytes(page):
    assert render_profile(make_table(rows=60), "A small table") == page


def test_another_table_gives_another_page(page):
    assert render_profile(make_table(rows=60, seed=1), "A small table") != page


def test_a_page_loads_nothing_from_elsewhere(page):
    loads = re.findall(
        r"""<(?:script|img|link|iframe|source|object)\b[^>]*?\b(?:src|href|data)\s*=\s*["']([^"']*)""", page
    )
    assert [address for address in loads if not address.startswith(("data:", "#"))] == []
    assert re.findall(r"@import|url\(\s*['\"]?(?:https?:)?//", page) == []


def test_a_page_shows_its_title_and_every_column(page):
    assert "A small table" in page
    for name in make_table(rows=1):
        assert name in page


def test_a_page_carries_no_date_of_its_making(page):
    assert re.findall(r"<dc:date>(?!1970)", page) == []


def test_what_a_cell_holds_is_not_run():
    page = render_profile(make_table(rows=20).assign(kind="<script>alert(1)</script>"), "t")
    assert "<script>alert(1)</script>" not in page
