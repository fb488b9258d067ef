import pytest

from mlops_core.paths import Paths, ProjectNotFoundError, dataset_file, find_paths, find_root, state_dir


@pytest.fixture
def project(tmp_path):
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("below", [".", "notebooks", "a/b/c"])
def test_the_root_is_found_from_any_folder_below(project, below):
    (project / below).mkdir(parents=True, exist_ok=True)
    assert find_root(project / below) == project


def test_without_a_start_the_current_folder_counts(project, monkeypatch):
    (project / "notebooks").mkdir()
    monkeypatch.chdir(project / "notebooks")
    assert find_root() == project
    assert find_paths("small") == Paths(project, "small")


@pytest.mark.parametrize("missing", ["dvc.yaml", "params.yaml"])
def test_one_of_the_two_files_is_not_enough(project, missing):
    (project / missing).unlink()
    with pytest.raises(ProjectNotFoundError, match=r"dvc\.yaml and params\.yaml"):
        find_root(project)


def test_a_folder_named_like_the_file_is_no_project(tmp_path):
    (tmp_path / "dvc.yaml").mkdir()
    (tmp_path / "params.yaml").touch()
    with pytest.raises(ProjectNotFoundError):
        find_root(tmp_path)


def test_the_nearest_project_wins(project):
    inner = project / "inner"
    inner.mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        (inner / name).touch()
    assert find_root(inner) == inner


def test_reports_name_files_without_the_folders_of_this_machine(project):
    paths = Paths(project, "small")
    assert paths.relative(paths.figure("leaks")) == "reports/figures/leaks.png"
    assert paths.relative(paths.metrics("train")) == "reports/metrics/train.json"
    assert paths.relative(paths.plots("roc.csv")) == "reports/plots/roc.csv"


def test_two_datasets_share_no_data_folder(project):
    one, other = Paths(project, "one"), Paths(project, "other")
    for name in ("raw", "processed", "models", "bundle", "evaluation", "best_params"):
        assert getattr(one, name) != getattr(other, name)


def test_files_of_the_checkout_lie_where_dvc_yaml_expects_them(project):
    assert dataset_file(project, "small") == project / "data/datasets/small.yaml"
    assert state_dir(project) == project / ".mlops"
    assert Paths(project, "small").bundle == project / "data/models/small/bundle"
    assert Paths(project, "small").evaluation == project / "data/models/small/evaluation.json"
