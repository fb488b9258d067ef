"""What can be set: explained in `.env.example`, every variable once, with the default that the code has."""

import os
import re
from pathlib import Path

import pytest

from api.settings import ApiSettings, load_api_settings
from mlops_core.settings import Settings, load_settings

LINES = (Path(__file__).parents[2] / ".env.example").read_text(encoding="utf-8").splitlines()
EXPLAINED = re.compile(r"# (MLOPS_[A-Z_]+)=(\S*) {2,}(\S.{15,})")
FOUND = [match.groups() for line in LINES if (match := EXPLAINED.fullmatch(line))]


def test_every_variable_is_explained_once() -> None:
    fields = [*Settings.model_fields, *ApiSettings.model_fields]
    assert sorted(name for name, _, _ in FOUND) == sorted({f"MLOPS_{field.upper()}" for field in fields})


def test_every_line_that_names_a_variable_explains_it() -> None:
    assert [line for line in LINES if line.startswith("# MLOPS_") and not EXPLAINED.fullmatch(line)] == []


def test_the_defaults_that_are_told_are_the_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MLOPS_")]:
        monkeypatch.delenv(name)
    before = load_settings(), load_api_settings()
    for name, value, _ in FOUND:
        if value:
            monkeypatch.setenv(name, value)
    assert (load_settings(), load_api_settings()) == before
    told = {name.removeprefix("MLOPS_").lower() for name, value, _ in FOUND if value}
    empty = {
        name for name, field in ApiSettings.model_fields.items() if not field.get_default() or str(field.default) == ""
    }
    assert told | empty >= set(ApiSettings.model_fields)
