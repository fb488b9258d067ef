"""The slot of the served model: what it remembers of trouble, and when it forgets."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from service import Folder
from structlog.testing import capture_logs

from api.serving import OUTAGE, POINTER, ModelSlot


@pytest.fixture
def slot(bundles: dict[str, Path], tmp_path: Path) -> ModelSlot:
    """Version 1 is served; 2 is damaged, 3 is good."""
    bad = shutil.copytree(bundles["binary"], tmp_path / "bad")
    (bad / "model.onnx").write_bytes(b"nonsense")
    slot = ModelSlot("small", "champion", tmp_path / "serving", Folder({1: bundles["binary"], 2: bad}))
    assert slot.refresh()
    return slot


def registry_of(slot: ModelSlot) -> Folder:
    assert isinstance(slot.registry, Folder)
    return slot.registry


def move(slot: ModelSlot, alias: int | None, at: float = 1000.0) -> bool:
    registry_of(slot).alias = alias
    return slot.refresh(now=lambda: at)


def again(slot: ModelSlot) -> ModelSlot:
    """What the next process makes of the same folder."""
    found = ModelSlot(slot.name, slot.alias, slot.folder, slot.registry)
    found.load_local()
    return found


def test_a_refused_version_is_no_trouble_any_more_once_the_alias_has_left_it(slot: ModelSlot) -> None:
    assert not move(slot, 2)
    assert (list(slot.refused), slot.degraded) == ([2], True)
    assert not move(slot, 1)
    assert (slot.refused, slot.degraded) == ({}, False)


def test_a_version_that_was_mended_is_tried_at_once_the_next_time(slot: ModelSlot, bundles: dict[str, Path]) -> None:
    for at in (1000.0, 1010.0, 1030.0):
        assert not move(slot, 2, at)
    registry_of(slot).bundles[2] = bundles["multiclass"]
    assert not move(slot, 2, 1031.0), "the pause after three failures was not kept"
    assert move(slot, 2, 1100.0)
    shutil.rmtree(slot.folder / "2")
    registry_of(slot).bundles[2] = bundles["regression"]
    assert move(slot, 1, 1101.0)
    assert move(slot, 2, 1101.0), "failures from before it served still count"


def test_an_outage_is_remembered_by_the_next_process_and_forgotten_with_the_first_answer(slot: ModelSlot) -> None:
    registry_of(slot).down = True
    for at in (1000.0, 2000.0):
        assert not slot.refresh(now=lambda at=at: at)
    restarted = again(slot)
    assert (restarted.registry_down_since, restarted.degraded, restarted.require().version) == (1000.0, True, 1)
    restarted.refresh(now=lambda: 3000.0)
    assert restarted.registry_down_since == 1000.0
    registry_of(slot).down = False
    restarted.refresh()
    assert (restarted.registry_down_since, restarted.degraded) == (None, False)
    assert again(slot).registry_down_since is None


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"since": null}', '{"since": "x"}'])
def test_a_note_that_cannot_be_read_is_no_outage(slot: ModelSlot, text: str) -> None:
    (slot.folder / OUTAGE).write_text(text)
    assert (again(slot).registry_down_since, again(slot).require().version) == (None, 1)


def test_an_alias_that_is_gone_is_reported_until_it_is_back(slot: ModelSlot) -> None:
    assert not move(slot, None)
    assert (slot.alias_missing, slot.degraded, slot.require().version) == (True, True, 1)
    registry_of(slot).down = True
    slot.refresh()
    assert slot.alias_missing, "silence is no answer"
    registry_of(slot).down = False
    move(slot, 1)
    assert (slot.alias_missing, slot.degraded) == (False, False)


def test_a_failure_after_the_end_is_no_outage(slot: ModelSlot) -> None:
    slot.close()
    registry_of(slot).down = True
    slot.refresh()
    assert again(slot).registry_down_since is None


def test_a_version_without_an_evaluation_is_served_and_the_log_says_why(
    slot: ModelSlot, bundles: dict[str, Path]
) -> None:
    registry_of(slot).bundles[3] = bundles["multiclass"]
    registry_of(slot).facts = {"no_evaluation": "the one that was registered is missing or damaged"}
    with capture_logs() as lines:
        assert move(slot, 3)
    (line,) = [item for item in lines if item["event"] == "no evaluation"]
    assert (line["log_level"], line["version"], line["reason"]) == (
        "warning",
        3,
        "the one that was registered is missing or damaged",
    )


def test_a_disk_that_takes_no_note_ends_nothing_and_keeps_what_the_next_start_needs(
    slot: ModelSlot, bundles: dict[str, Path]
) -> None:
    for name in (OUTAGE, POINTER):  # a folder of that name cannot be replaced by a file
        (slot.folder / f".{name}.tmp").mkdir()
    registry_of(slot).bundles[3] = bundles["multiclass"]
    assert move(slot, 3)
    assert slot.require().version == 3
    assert json.loads((slot.folder / POINTER).read_text())["version"] == 1
    assert again(slot).require().version == 1
    registry_of(slot).down = True
    assert not slot.refresh()
    assert slot.degraded


def test_processes_that_share_the_folder_fetch_one_after_the_other(slot: ModelSlot, bundles: dict[str, Path]) -> None:
    registry_of(slot).bundles[2] = bundles["multiclass"]
    registry_of(slot).alias = 2
    slots = [again(slot) for _ in range(4)]
    with ThreadPoolExecutor(len(slots)) as pool:
        assert list(pool.map(lambda one: one.refresh(), slots)) == [True] * len(slots)
    assert [(one.require().version, one.degraded) for one in slots] == [(2, False)] * len(slots)
    assert again(slot).require().version == 2


def test_what_a_killed_process_left_half_fetched_is_cleared_away(slot: ModelSlot, bundles: dict[str, Path]) -> None:
    for name in (".2.draft", ".fetch-abc", "7"):
        (slot.folder / name).mkdir()
    registry_of(slot).bundles[2] = bundles["multiclass"]
    assert move(slot, 2)
    assert [path.name for path in slot.folder.iterdir() if path.is_dir()] == ["2"]
