"""The command line. Imports nothing heavy before a command needs it: `mlops --help` answers at once."""

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from mlops_core.errors import MLOpsError

if TYPE_CHECKING:
    from mlops_core.pipeline.verify import Finding

app = typer.Typer(
    help="An end-to-end machine-learning system: ten notebooks that teach, run in batch and serve.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("init")
def initialise(  # noqa: PLR0913, PLR0917  each is an option
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A CSV or Parquet file, or its address.")] = "",
    target: Annotated[str, typer.Option(help="The column to predict.", metavar="COLUMN")] = "",
    name: Annotated[str, typer.Option(help="Of the dataset; of the file if left out.", metavar="NAME")] = "",
    time: Annotated[str, typer.Option(help="The column that orders the rows in time.", metavar="COLUMN")] = "",
    id_: Annotated[str, typer.Option("--id", help="The column that names a row.", metavar="COLUMN")] = "",
    group: Annotated[str, typer.Option(help="Rows that share its value stay together.", metavar="COLUMN")] = "",
    task: Annotated[str, typer.Option(help="binary, multiclass or regression; found if left out.")] = "",
    sha256: Annotated[str, typer.Option(help="Of the file behind an address.", metavar="HEX")] = "",
    sql: Annotated[str, typer.Option(help="A database's address, as SQLAlchemy writes it.", metavar="URL")] = "",
    query: Annotated[str, typer.Option(help="What to ask the database.", metavar="SQL")] = "",
) -> None:
    """Write a dataset file for a table of your own, commented line by line; run again, it keeps your edits."""
    from mlops_core.draft.command import Wish, init_table
    from mlops_core.paths import find_root

    print(init_table(find_root(), Wish(table, target, name, time, id_, group, task, sha256, sql, query)))


@app.command()
def run(
    dataset: Annotated[str, typer.Option(help="A file in data/datasets, without .yaml.", metavar="NAME")] = "",
    stage: Annotated[str, typer.Option(help="Run up to this stage only.", metavar="STAGE")] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter, for example tune.trials=10.", metavar="KEY=VALUE")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run stages even if nothing changed.")] = False,
) -> None:
    """Run the series: whatever is out of date, in order, through DVC."""
    from mlops_core.params import parse_assignment
    from mlops_core.paths import find_root

    root = find_root()
    changes = dict(parse_assignment(text) for text in set_ or [])
    if dataset:
        changes["dataset"] = dataset
    from mlops_core.pipeline.run import Request, run_series
    from mlops_core.pipeline.summary import finish_run

    request = Request(changes, stage or None, force)
    params = run_series(root, request)
    print(finish_run(root, params, request.stage))


@app.command(hidden=True)
def stage(
    name: str, timeout: Annotated[int, typer.Option(help="Seconds after which a cell fails; 0: never.")] = 0
) -> None:
    """Execute one notebook; this is what DVC calls."""
    from mlops_core.paths import find_root
    from mlops_core.processes import end_with_parent

    end_with_parent()
    from mlops_core.forkserver import stand_in

    stand_in("api.cli:main", sys.argv)
    from mlops_core.pipeline.execute import run_stage

    run_stage(find_root(), name, timeout or None)


@app.command()
def score(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A CSV or Parquet table.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Where the answers go, .csv or .parquet.")],
    model: Annotated[
        str, typer.Option(help="NAME@ALIAS; the champion of params.yaml's dataset if left out.", metavar="NAME@ALIAS")
    ] = "",
) -> None:
    """Score a table in constant memory; bad rows go to OUT's neighbour .rejected with a reason."""
    from mlops_core.pipeline.scoring import score_table

    print(score_table(source, target, model))


@app.command()
def models() -> None:
    """List what the registry holds."""
    from mlops_core.pipeline.moves import describe_models

    print(describe_models())


Reason = Annotated[str, typer.Option(help="Why; it is recorded with the version.", metavar="TEXT")]
Model = Annotated[str, typer.Option(help="Of params.yaml's dataset if left out.", metavar="NAME")]


@app.command()
def promote(
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1)], reason: Reason, model: Model = ""
) -> None:
    """Make a version the champion, after trying its bundle."""
    from mlops_core.pipeline.moves import promote_version

    print(promote_version(model, version, reason))


@app.command()
def rollback(reason: Reason, model: Model = "") -> None:
    """Go back to the champion before; no later run promotes the one that is left by itself."""
    from mlops_core.pipeline.moves import roll_back_champion

    print(roll_back_champion(model, reason))


@app.command()
def rehearse() -> None:
    """Act out releases of the API on this machine, good and bad, and count what callers notice; needs haproxy."""
    from mlops_core.deploy.acts import describe_record
    from mlops_core.deploy.acts import rehearse as act_out
    from mlops_core.params import load_params
    from mlops_core.paths import Paths, find_root

    root = find_root()
    params = load_params(root=root)
    print(describe_record(act_out(Paths(root, params.dataset), params)))


@app.command()
def verify() -> None:
    """Re-hash outputs, cache and bundles, and name what differs."""
    from mlops_core.pipeline.summary import verify_all

    _report(verify_all(), "Everything is as it was written.")


@app.command()
def doctor() -> None:
    """Look for what is wrong with this machine or checkout, and say the fix."""
    from mlops_core.paths import find_root
    from mlops_core.pipeline.doctor import examine

    _report(examine(find_root()), "Nothing is wrong.")


def _report(findings: "list[Finding]", fine: str) -> None:
    for finding in findings:
        print(finding)
    if findings:
        raise typer.Exit(1)
    print(fine)


def _fail(message: str, code: int) -> NoReturn:
    if message:
        print(message, file=sys.stderr)
    raise SystemExit(code)


def main() -> None:
    """Runs a command; errors that were foreseen end in one line and their exit code, without a traceback."""
    try:
        app()
    except MLOpsError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _fail(
                f"No space left on the disk that holds {error.filename or 'this checkout'}: free some, then try again.",
                1,
            )
        if error.errno in (errno.EACCES, errno.EROFS):
            _fail(f"{error.filename} cannot be written: check its owner and permissions.", 1)
        raise
