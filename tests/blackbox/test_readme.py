"""What the README tells to type, typed: to the letter, after a real run, against a real server."""

import json
import re
import subprocess
from collections.abc import Iterator
from shutil import which

import pytest
from project import CHECKOUT, Project, end_group, wait_until

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
ADDRESS = re.compile(r"API on http://127\.0\.0\.1:(\d+)")
(EXAMPLE,) = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
(PRINTED,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def served(used: Project) -> Iterator[tuple[Project, int]]:
    """A finished project with a server that has loaded its champion, and the server's port."""
    process = used.start("sh", "-c", "exec mlops serve --port 0 >serve.log 2>&1")
    log = used.path("serve.log")
    try:
        wait_until(lambda: log.exists() and "model swapped" in log.read_text(), 60, "the champion is served")
        yield used, int(ADDRESS.findall(log.read_text())[0])
    finally:
        end_group(process, 15)
        process.communicate(timeout=30)


@pytest.mark.skipif(which("curl") is None, reason="there is no curl on this machine")
def test_the_example_gets_an_answer_of_the_printed_form(served: tuple[Project, int]) -> None:
    project, port = served
    project.path("curl").mkdir()
    project.write("curl/.curlrc", f"connect-to = 127.0.0.1:8000:127.0.0.1:{port}\n")
    done = project.run("bash", "-eu", "-c", EXAMPLE, CURL_HOME=str(project.path("curl")))
    assert (done.code, done.err) == (0, "")
    answer, printed = json.loads(done.out), json.loads(PRINTED)
    assert answer["model"] == {"name": "flights", "version": 1}
    (entry,) = answer["predictions"]
    assert set(entry) - {"unusual"} == set(printed["predictions"][0])  # the small table has seen few flights
    assert entry["label"] in ("on time", "late")


def test_make_serve_starts_what_the_example_asks() -> None:
    assert "`make serve`" in README
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "-o", ".venv/all", "serve"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["mlops", "serve"]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))))
def test_every_make_command_of_the_readme_exists(target: str) -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE)
