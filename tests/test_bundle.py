import json
import shutil
from dataclasses import replace

import pytest
from tables import TASKS, make_bundle, make_table

from mlops_core.serve.bundle import (
    FILES,
    FORMAT,
    MANIFEST,
    BundleError,
    bundle_digest,
    dump_json,
    read_constants,
    verify_bundle,
    write_manifest,
)
from mlops_core.serve.predictor import load_predictor
from mlops_core.train.package import write_bundle


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


@pytest.fixture
def bundle(bundles, tmp_path):
    return shutil.copytree(bundles["binary"], tmp_path / "bundle")


def refuse(folder, match):
    with pytest.raises(BundleError, match=match) as caught:
        load_predictor(folder)
    assert caught.value.folder == folder


def test_a_written_bundle_is_what_can_be_loaded(bundles, task):
    predictor = load_predictor(bundles[task])
    assert predictor.digest == bundle_digest(bundles[task]) == verify_bundle(bundles[task])
    assert predictor.schema.task == task
    assert {item.name for item in bundles[task].iterdir()} == {*FILES, MANIFEST}


def test_the_same_inputs_give_the_same_digest(bundles, task, tmp_path):
    again = make_bundle(task, tmp_path / "again")
    assert bundle_digest(again) == bundle_digest(bundles[task])
    assert all((again / name).read_bytes() == (bundles[task] / name).read_bytes() for name in FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_one_changed_byte_is_found_in_every_file(bundle, name, place):
    data = bytearray((bundle / name).read_bytes())
    data[round(place * (len(data) - 1))] ^= 1
    (bundle / name).write_bytes(data)
    refuse(bundle, f"{name} is not what the manifest says")


def test_one_changed_byte_is_found_anywhere_in_the_manifest(bundle):
    data = (bundle / MANIFEST).read_bytes()
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1
        (bundle / MANIFEST).write_bytes(changed)
        refuse(bundle, "manifest|format|does not belong")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("kept", "added"), [(0, b""), (-1, b""), (None, b"\n")])
def test_a_file_that_was_cut_or_grew_is_found(bundle, name, kept, added):
    (bundle / name).write_bytes((bundle / name).read_bytes()[:kept] + added)
    refuse(bundle, f"{name} is not what the manifest says")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    refuse(bundle, f"{name} is missing")


@pytest.mark.parametrize("name", [".hidden", "zzz.txt", "model.onnx.bak"])
def test_an_extra_file_is_named(bundle, name):
    (bundle / name).touch()
    refuse(bundle, f"{name} is missing or does not belong there")


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_symlink_is_refused_even_to_the_right_bytes(bundle, tmp_path, name):
    (bundle / name).rename(tmp_path / name)
    (bundle / name).symlink_to(tmp_path / name)
    refuse(bundle, name)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_folder_in_place_of_a_file_is_refused(bundle, name):
    (bundle / name).unlink()
    (bundle / name).mkdir()
    refuse(bundle, name)


def test_a_folder_that_is_not_there_is_no_bundle(tmp_path):
    refuse(tmp_path / "nothing", "manifest.json is missing")


@pytest.mark.parametrize("found", [FORMAT + 1, str(FORMAT), None])
def test_a_bundle_of_another_format_is_not_guessed_at(bundle, found):
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    (bundle / MANIFEST).write_bytes(dump_json({**manifest, "format": found}))
    refuse(bundle, f"its format is {found}, this version reads {FORMAT}")


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b'{"files": 1}', b'{"files": [1]}', b"\xff"])
def test_a_manifest_that_cannot_be_read_is_told(bundle, content):
    (bundle / MANIFEST).write_bytes(content)
    refuse(bundle, "manifest.json is not readable")


@pytest.mark.parametrize("files", [{}, {"../model.onnx": "0" * 64}])
def test_a_manifest_of_other_files_is_refused(bundle, files):
    (bundle / MANIFEST).write_bytes(dump_json({"format": FORMAT, "files": files}))
    refuse(bundle, "does not belong there")


@pytest.mark.parametrize("task", TASKS, indirect=True)
def test_golden_rows_find_another_model_even_under_a_fresh_manifest(bundles, task, tmp_path):
    folder = shutil.copytree(bundles[task], tmp_path / "bundle")
    golden = json.loads((folder / "golden.json").read_bytes())
    answers = golden["answers"]
    golden["answers"] = [[a + 1e-4 for a in row] if task != "regression" else row + 1e-2 for row in answers]
    (folder / "golden.json").write_bytes(dump_json(golden))
    write_manifest(folder)
    verify_bundle(folder)
    refuse(folder, "golden rows get other answers")


@pytest.mark.parametrize("change", [{"calibration_slope": 1.01}, {"calibration_offset": [0.0, 0.01]}])
def test_golden_rows_find_other_constants_even_under_a_fresh_manifest(bundle, change):
    constants = json.loads((bundle / "constants.json").read_bytes())
    first = change.get("calibration_offset", constants["calibration_offset"])
    assert first is not None
    (bundle / "constants.json").write_bytes(dump_json({**constants, **change}))
    write_manifest(bundle)
    refuse(bundle, "golden rows get other answers")


def test_golden_rows_find_a_schema_whose_categories_were_swapped(bundle):
    schema = json.loads((bundle / "schema.json").read_bytes())
    next(column for column in schema["columns"] if column["name"] == "kind")["categories"].reverse()
    (bundle / "schema.json").write_bytes(dump_json(schema))
    write_manifest(bundle)
    refuse(bundle, "golden rows get other answers")


def test_a_new_bundle_replaces_the_old_one_whole(bundle):
    predictor = load_predictor(bundle)
    (bundle / "left over.txt").touch()
    graph = (bundle / "model.onnx").read_bytes()
    digest = write_bundle(bundle, graph, predictor.schema, predictor.constants, make_table(), background=5, seed=2)
    assert load_predictor(bundle).digest == digest != predictor.digest
    assert [item.name for item in bundle.parent.iterdir()] == [bundle.name]


def test_an_interrupted_write_leaves_the_old_bundle(bundle):
    predictor = load_predictor(bundle)
    broken = replace(predictor.schema, columns=predictor.schema.columns[:2])
    graph = (bundle / "model.onnx").read_bytes()
    with pytest.raises(Exception, match="dimension"):
        write_bundle(bundle, graph, broken, predictor.constants, make_table(), background=5, seed=2)
    assert load_predictor(bundle).digest == predictor.digest


def test_numbers_that_json_does_not_know_are_never_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json({"level": float("inf")})


def test_constants_come_back_to_the_last_bit(bundle):
    constants = read_constants(bundle)
    assert dump_json(vars(constants)) == (bundle / "constants.json").read_bytes()
