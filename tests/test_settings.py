import pytest
from pydantic import ValidationError

from mlops_core.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in ("ENV", "TRACKING_URI", "STUDY_URL"):
        monkeypatch.delenv(f"MLOPS_{name}", raising=False)


def test_without_variables_everything_stays_in_the_checkout(tmp_path):
    settings = load_settings()
    assert settings.env == "local"
    assert settings.tracking(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert settings.study(tmp_path) == f"sqlite:///{tmp_path}/.mlops/optuna.db"


def test_variables_replace_the_stores(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("MLOPS_STUDY_URL", "postgresql://db/optuna")
    settings = load_settings()
    assert settings.tracking(tmp_path) == "http://mlflow:5000"
    assert settings.study(tmp_path) == "postgresql://db/optuna"


def test_an_unknown_environment_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("MLOPS_ENV", "prod")
    with pytest.raises(SettingsError, match=r"MLOPS_ENV: .*'local' or 'production'"):
        load_settings()


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().env = "production"


def test_variables_are_read_when_asked_not_at_import(monkeypatch):
    assert load_settings().env == "local"
    monkeypatch.setenv("MLOPS_ENV", "production")
    assert load_settings().env == "production"
