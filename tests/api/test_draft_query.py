"""A query's rows as a dataset, from both databases."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from mlops_core.database import create_private_file
from mlops_core.datasets import load_dataset
from mlops_core.draft.command import Wish, init_table
from mlops_core.errors import RequestError
from mlops_core.ingest import ingest_source

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, make_database: Callable[[str], str]) -> str:
    url = make_database(request.param)
    create_private_file(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER, at TIMESTAMP, amount NUMERIC(8, 2), kind TEXT)")
        for i in range(120):
            kind = "NULL" if i % 40 == 7 else f"'{'late' if i % 3 else 'early'}'"
            at = f"'2020-{i // 28 + 1:02d}-{i % 28 + 1:02d} 07:08:09'"
            connection.exec_driver_sql(f"INSERT INTO orders VALUES ({i}, {at}, {i * 7 % 31}.25, {kind})")
    engine.dispose()
    return url


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "params.yaml").write_bytes((CHECKOUT / "params.yaml").read_bytes())
    return root


def test_the_rows_of_a_query_become_a_dataset(root: Path, url: str) -> None:
    wish = Wish("", "kind", name="orders", id="id", sql=url, query="SELECT * FROM orders\nWHERE amount > 1")
    init_table(root, wish)
    spec = load_dataset("orders", root)
    assert (spec.task, spec.id, spec.time) == ("binary", "id", "at")
    assert (spec.columns["amount"].type, spec.columns["kind"].missing) == ("number", True)
    (ingested,) = ingest_source(spec, root).values()
    assert (len(ingested.accepted), len(ingested.quarantined)) == (116, 0)
    assert spec.origin.endswith("SELECT * FROM orders WHERE amount > 1")
    if password := make_url(url).password:
        assert password not in (root / "data/datasets/orders.yaml").read_text()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT * FROM nothing", "failed"),
        ("SELEKT", "failed"),
        ("SELECT * FROM orders WHERE amount < 0", "returns no rows"),
        ("", "belong together"),
    ],
)
def test_a_query_that_gives_nothing_is_one_sentence_and_writes_nothing(
    root: Path, url: str, query: str, words: str
) -> None:
    with pytest.raises(RequestError, match=words) as raised:
        init_table(root, Wish("", "kind", name="orders", sql=url, query=query))
    assert "\n" not in str(raised.value)
    assert not (root / "data").exists()


def test_a_query_changes_nothing(root: Path, url: str) -> None:
    with pytest.raises(RequestError):
        init_table(root, Wish("", "kind", name="orders", sql=url, query="DELETE FROM orders"))
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM orders").scalar() == 120
    engine.dispose()


@pytest.mark.parametrize("address", ["nonsense", "oracle://x", "sqlite:///not/there.db", "postgresql://127.0.0.1:1/x"])
def test_an_address_of_no_database_is_one_sentence(root: Path, address: str) -> None:
    with pytest.raises(RequestError, match=r"database|failed") as raised:
        init_table(root, Wish("", "kind", name="orders", sql=address, query="SELECT 1"))
    assert "\n" not in str(raised.value)
