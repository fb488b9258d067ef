import os

import pytest
from tables import make_spec, sha256

from mlops_core import sources
from mlops_core.sources import SourceError, check_sources, read_verified

DATA = b"a,b\n1,2\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(DATA)
    return path


def refuse(path, match, data=DATA):
    with pytest.raises(SourceError, match=match) as caught:
        read_verified(path, sha256(data))
    assert caught.value.path == path


def test_the_declared_file_comes_back_byte_for_byte(file):
    assert read_verified(file, sha256(DATA)) == DATA


def test_a_missing_file_says_how_to_get_it_back(tmp_path):
    refuse(tmp_path / "t.csv", "git checkout")


def test_a_symlink_is_refused_even_to_the_right_file(file, tmp_path):
    (tmp_path / "link.csv").symlink_to(file)
    refuse(tmp_path / "link.csv", "not a plain file")


def test_a_symlink_to_nothing_is_refused(tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "nothing")
    refuse(tmp_path / "link.csv", "not a plain file")


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "t.csv").mkdir()
    refuse(tmp_path / "t.csv", "not a plain file")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    refuse(tmp_path / "t.csv", "not a plain file")


@pytest.mark.parametrize("changed", [b"", DATA + b"\n", DATA[:-1], DATA.replace(b"1", b"2")])
def test_a_changed_file_is_refused_with_both_hashes(file, changed):
    file.write_bytes(changed)
    refuse(file, f"its sha256 is {sha256(changed)}, not {sha256(DATA)[:12]}…")


@pytest.mark.parametrize(("limit", "fits"), [(len(DATA), True), (len(DATA) - 1, False)])
def test_a_file_above_the_limit_is_not_read(file, monkeypatch, limit, fits):
    monkeypatch.setattr(sources, "MAX_BYTES", limit)
    if fits:
        assert read_verified(file, sha256(DATA)) == DATA
    else:
        refuse(file, "is larger than 7 bytes")


def test_sources_are_checked_where_the_dataset_file_says(tmp_path):
    spec = make_spec(source={"kind": "csv", "path": "data/source/small.csv", "sha256": sha256(DATA)})
    with pytest.raises(SourceError, match="is missing from source/"):
        check_sources(spec, tmp_path)
    (tmp_path / "data/source").mkdir(parents=True)
    (tmp_path / "data/source/small.csv").write_bytes(DATA)
    check_sources(spec, tmp_path)
    (tmp_path / "data/source/small.csv").write_bytes(DATA + b"3,4\n")
    with pytest.raises(SourceError, match="not the declared file"):
        check_sources(spec, tmp_path)
