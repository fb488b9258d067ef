import copy
import math

import pytest
import yaml
from tables import make_params

from mlops_core.params import (
    ParamsError,
    check_params,
    known_names,
    load_params,
    override,
    parse_assignment,
    read_params,
)


@pytest.fixture
def tree():
    return copy.deepcopy(make_params().model_dump())


@pytest.fixture
def root(tmp_path, tree):
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("ingest", "max_quarantined", -0.01),
        ("ingest", "max_quarantined", 1.01),
        ("preprocess", "test_share", 0.0),
        ("preprocess", "test_share", 1.0),
        ("preprocess", "calibrate_every", 1),
        ("preprocess", "audit_auc", 0.5),
        ("preprocess", "test_months", -1),
        ("tune", "trials", 0),
        ("tune", "trials", 1.5),
        ("tune", "trials", "30"),
        ("tune", "trials", True),
        ("tune", "folds", 1),
        ("tune", "families", []),
        ("tune", "families", ["forest"]),
        ("train", "miss_cost", 0),
        ("train", "miss_cost", math.inf),
        ("train", "parity_tolerance", math.inf),
        ("train", "parity_tolerance", math.nan),
        ("train", "coverage", 1.0),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_its_dotted_name(tree, section, key, value):
    tree[section][key] = value
    with pytest.raises(ParamsError) as caught:
        check_params(tree)
    assert caught.value.name.startswith(f"{section}.{key}")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("ingest", "max_quarantined", 0.0),
        ("ingest", "max_quarantined", 1),
        ("preprocess", "calibrate_every", 2),
        ("preprocess", "audit_auc", 1.0),
        ("tune", "trials", 1),
        ("train", "bootstrap", 20),
    ],
)
def test_the_bounds_themselves_are_allowed(tree, section, key, value):
    tree[section][key] = value
    assert check_params(tree).flat()[f"{section}.{key}"] == value


def test_a_typo_in_the_file_names_the_right_parameter(tree):
    tree["tune"]["trails"] = tree["tune"].pop("trials")
    with pytest.raises(ParamsError) as caught:
        check_params({**tree, "tune": {**tree["tune"], "trials": 3}})
    assert "Did you mean 'tune.trials'?" in str(caught.value)


def test_a_missing_parameter_is_named(tree):
    del tree["train"]["bins"]
    with pytest.raises(ParamsError, match=r"'train\.bins': is missing"):
        check_params(tree)


@pytest.mark.parametrize("name", ["Flights", "../flights", "2flights", "", "flights.yaml"])
def test_a_dataset_name_cannot_leave_its_folder(tree, name):
    with pytest.raises(ParamsError, match="dataset"):
        check_params({**tree, "dataset": name})


def test_flat_names_and_known_names_are_the_same(tree):
    assert sorted(check_params(tree).flat()) == sorted(known_names())


def test_parameters_cannot_be_changed_afterwards(tree):
    with pytest.raises(ValueError, match="frozen"):
        check_params(tree).tune.trials = 9


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"tune: [1, 2", "not valid YAML"),
        (b"\xff\xfe", "not valid YAML"),
        (b"", "holds no parameters"),
        (b"- 1\n", "holds no parameters"),
        (b"just words", "holds no parameters"),
    ],
)
def test_a_broken_file_is_told_from_a_wrong_choice(tmp_path, content, problem):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(ParamsError, match=problem):
        read_params(tmp_path / "params.yaml")


def test_a_missing_file_says_how_to_get_it_back(tmp_path):
    with pytest.raises(ParamsError, match=r"git checkout params\.yaml"):
        read_params(tmp_path / "params.yaml")


def test_broken_yaml_is_told_with_its_line(tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 1\ntune: [1\n", encoding="utf-8")
    with pytest.raises(ParamsError, match="line 3"):
        read_params(tmp_path / "params.yaml")


def test_override_leaves_the_original_alone(tree):
    before = copy.deepcopy(tree)
    assert override(tree, {"tune.trials": 99, "seed": 3})["tune"]["trials"] == 99
    assert tree == before


@pytest.mark.parametrize("name", ["tune.trails", "tune", "trials", "tune.trials.x", ""])
def test_override_refuses_what_is_no_parameter(tree, name):
    with pytest.raises(ParamsError, match="does not exist"):
        override(tree, {name: 1})


def test_overriding_into_an_empty_section_ends_in_a_sentence(tree):
    with pytest.raises(ParamsError, match="is missing"):
        check_params(override({**tree, "tune": None}, {"tune.trials": 5}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tune.trials=5", ("tune.trials", 5)),
        ("train.coverage=0.8", ("train.coverage", 0.8)),
        ("tune.families=[logistic]", ("tune.families", ["logistic"])),
        (" seed = 3", ("seed", 3)),
        ("track.experiment=a=b", ("track.experiment", "a=b")),
        ("dataset=", ("dataset", None)),
    ],
)
def test_an_assignment_is_read_as_yaml(text, expected):
    assert parse_assignment(text) == expected


@pytest.mark.parametrize("text", ["tune.trials", "", "tune.families=[logistic", "dataset={"])
def test_an_assignment_without_a_readable_value_is_refused(text):
    with pytest.raises(ParamsError):
        parse_assignment(text)


def test_a_notebooks_empty_parameter_leaves_the_file_alone(root, tree):
    assert load_params({"dataset": "", "preprocess.test_months": 0}, root).model_dump() == tree


def test_a_notebooks_parameter_replaces_the_files(root):
    assert load_params({"preprocess.test_months": 4}, root).preprocess.test_months == 4


def test_a_misspelt_notebook_parameter_is_refused(root):
    with pytest.raises(ParamsError, match=r"Did you mean 'preprocess\.test_months'"):
        load_params({"preprocess.test_month": 4}, root)
