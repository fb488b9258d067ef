"""The rules of the notebooks, over their sources: each is a lesson and a production stage at once."""

import ast
import itertools
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
MAX_LINES = 15
MAX_DEFINITION_LINES = 5
MAX_PARAMETERS = 5
LITERALS = {"str": str, "int": int, "float": float, "bool": bool}
EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\u2b50\u2b55\ufe0f]")
# A score is a measured number: 0.68, 74 %, 0,7. A typed one is false after the next run.
SCORE = re.compile(r"(?<![\w.])(0[.,]\d+|\d+([.,]\d+)?\s?(%|percent))")
ABSOLUTE = re.compile(r"""["'`( ](/(home|root|tmp|Users|work|mnt|usr|var|opt|etc)/|[A-Z]:\\\\|~/)""")


class Notebook:
    """A source with its cells as text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = json.loads(path.read_text(encoding="utf-8"))
        self.cells = [(cell, "".join(cell["source"])) for cell in self.tree["cells"]]

    def texts(self, kind: str) -> list[str]:
        return [text for cell, text in self.cells if cell["cell_type"] == kind]

    @property
    def prose(self) -> list[str]:
        """Markdown without code, math and addresses, and the prose inside code: what a cell shows as Markdown."""
        plain = [
            re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$|\]\([^)]*\)", " ", text, flags=re.S) for text in self.texts("markdown")
        ]
        written = [node for text in self.texts("code") for node in ast.walk(parsed(text)) if is_markdown(node)]
        return plain + ["".join(constant_parts(node)) for node in written]

    @property
    def parameters(self) -> list[str]:
        return [text for cell, text in self.cells if "parameters" in cell["metadata"].get("tags", [])]

    @property
    def headings(self) -> list[tuple[int, str]]:
        found = re.findall(r"^(#+) (.+)$", "\n\n".join(strip_fences(text) for text in self.texts("markdown")), re.M)
        return [(len(marks), title.strip()) for marks, title in found]


def strip_fences(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.S)


def parsed(code: str) -> ast.Module:
    return ast.parse("\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!"))))


def is_markdown(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Markdown"


def constant_parts(node: ast.AST) -> list[str]:
    """The typed parts of a text, without what is computed in braces."""
    if isinstance(node, ast.FormattedValue):
        return ["…"]
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    return [part for child in ast.iter_child_nodes(node) for part in constant_parts(child)]


@pytest.fixture(params=SOURCES, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Notebook:
    return Notebook(request.param)


def test_there_are_notebooks() -> None:
    assert {path.stem[:2] for path in SOURCES} >= {"01", "02", "03", "04", "05", "06"}


def test_a_source_holds_no_outputs(notebook: Notebook) -> None:
    for cell, text in notebook.cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], text
            assert cell["execution_count"] is None, text
        assert set(cell["metadata"]) <= {"tags"}, text
    assert set(notebook.tree["metadata"].get("language_info", {})) <= {"name"}


def test_the_first_line_is_the_number_and_the_title(notebook: Notebook) -> None:
    number = notebook.path.stem[:2]
    assert notebook.texts("markdown")[0].startswith(f"# {number} · ")
    assert notebook.cells[0][0]["cell_type"] == "markdown"


def test_there_is_one_title_and_no_level_is_skipped(notebook: Notebook) -> None:
    levels = [level for level, _ in notebook.headings]
    assert levels.count(1) == 1
    assert levels[0] == 1
    jumps = [pair for pair in itertools.pairwise(levels) if pair[1] > pair[0] + 1]
    assert jumps == []


def test_the_opening_says_question_files_modules_and_time(notebook: Notebook) -> None:
    opening = notebook.texts("markdown")[0]
    for words in ("**Question.**", "Input → output", "Uses", "minutes to read", "to run"):
        assert words in opening


def test_links_to_the_neighbours_lead_somewhere(notebook: Notebook) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", "\n".join(notebook.texts("markdown")))
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in local if link.endswith(".ipynb")], "the neighbours"
    assert [link for link in local if not (FOLDER / link).exists()] == []


def test_one_cell_of_parameters_with_typed_and_explained_literals(notebook: Notebook) -> None:
    assert len(notebook.parameters) == 1
    (cell,) = notebook.parameters
    lines = cell.splitlines()
    body = ast.parse(cell).body
    assert 1 <= len(body) <= MAX_PARAMETERS
    for node in body:
        assert isinstance(node, ast.AnnAssign), ast.unparse(node)
        assert isinstance(node.target, ast.Name)
        kind = LITERALS[ast.unparse(node.annotation)]
        assert type(ast.literal_eval(ast.unparse(node.value))) is kind, ast.unparse(node)
        assert re.search(r"  # \S.{5,}", lines[node.end_lineno - 1]), f"no help: {lines[node.end_lineno - 1]}"


def test_all_imports_stand_in_one_cell_after_the_parameters(notebook: Notebook) -> None:
    """But for a page: Voilà runs its cell without the others."""
    shown = [text for cell, text in notebook.cells if "page" in cell["metadata"].get("tags", [])]
    code = [text for text in notebook.texts("code") if text not in shown]
    importing = [
        i
        for i, text in enumerate(code)
        if any(isinstance(node, ast.Import | ast.ImportFrom) for node in parsed(text).body)
    ]
    assert importing == [code.index(notebook.parameters[0]) + 1]


def test_no_code_cell_is_longer_than_a_screen_of_attention(notebook: Notebook) -> None:
    code = notebook.texts("code")
    assert {text.splitlines()[0]: len(text.splitlines()) for text in code if text.count("\n") >= MAX_LINES} == {}


def test_no_cell_is_empty(notebook: Notebook) -> None:
    assert [i for i, (_, text) in enumerate(notebook.cells) if not text.strip()] == []


def test_nothing_of_length_is_defined_in_a_notebook(notebook: Notebook) -> None:
    for text in notebook.texts("code"):
        for node in ast.walk(parsed(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
                assert (node.end_lineno or 0) - node.lineno < MAX_DEFINITION_LINES, text


def test_no_package_is_installed_and_no_warning_silenced(notebook: Notebook) -> None:
    for text in notebook.texts("code"):
        assert not re.search(r"^\s*[!%]", text, re.M), text
        assert "pip install" not in text
        assert not re.search(r"(filter|simplefilter)\w*\(\s*[\"']ignore", text), text


def test_no_path_is_absolute(notebook: Notebook) -> None:
    for _, text in notebook.cells:
        assert not ABSOLUTE.search(text), text


def test_a_sentence_stands_before_every_section_s_code(notebook: Notebook) -> None:
    ending = {"What we learned"}
    for (before, text), (cell, _) in zip(notebook.cells, notebook.cells[1:], strict=False):
        if before["cell_type"] == "markdown" and cell["cell_type"] == "code":
            heading = re.fullmatch(r"#+ (.+)", text.strip())
            assert not heading or heading[1] in ending, f"only a heading before code: {text}"


def test_it_ends_with_what_we_learned_and_exercises(notebook: Notebook) -> None:
    titles = [title for level, title in notebook.headings if level == 2]
    assert titles[-2:] == ["What we learned", "Exercises"]
    last = notebook.texts("markdown")[-1]
    assert re.search(r"^1\. ", last, re.M)
    assert re.search(r"^2\. ", last, re.M)


def test_what_we_learned_is_computed(notebook: Notebook) -> None:
    at = next(i for i, (_, text) in enumerate(notebook.cells) if text.startswith("## What we learned"))
    cell, text = notebook.cells[at + 1]
    assert cell["cell_type"] == "code"
    assert any(isinstance(node, ast.FormattedValue) for node in ast.walk(parsed(text)))


def test_the_stage_fails_when_its_result_is_not_acceptable(notebook: Notebook) -> None:
    code = "\n".join(notebook.texts("code"))
    assert re.search(r"^\s*assert |^\s*check_\w+\(|^\s*enforce_\w+\(", code, re.M)


def test_prose_is_calm(notebook: Notebook) -> None:
    for text in notebook.prose:
        assert "!" not in text.replace("!=", ""), text
        assert not EMOJI.search(text), text
        assert "In this cell" not in text, text


def test_no_score_is_typed_in_prose(notebook: Notebook) -> None:
    found = [match[0] for text in notebook.prose for match in SCORE.finditer(text)]
    assert found == []


def test_no_sentence_takes_a_time_column_or_two_classes_for_granted(notebook: Notebook) -> None:
    assert [text for text in notebook.prose if re.search("test months|calibration days|the event by month", text)] == []


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("an ROC-AUC of 0.80", True),
        ("at 75 % late-free flights", True),
        ("about 12 percent", True),
        ("experiment 05 depends on it", False),
        ("version 3.13", False),
        ("the year 2013, in 10 minutes", False),
    ],
)
def test_a_typed_score_is_recognised(text: str, typed: bool) -> None:
    assert bool(SCORE.search(text)) is typed
