"""concerto-cloud: train, export, evaluate, infer and serve."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cloud_server import failpoints
from cloud_server.graphs import verbs
from cloud_server.recipe import TrainSettings, digest, export_code, training_code
from cloud_server.serve_cli import SetOption, host, serve
from shared_models.catalog import method_names, resolve, rows_config, task_of
from shared_models.contract.errors import BadSetting, ConcertoError, PathMissing, UnknownName
from shared_models.contract.manifest import Task
from shared_models.contract.settings import parse_settings, validated

# Torch and polars are imported by the verbs that need them, so that a wrong option is told at once.

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(serve)
app.command()(host)

MethodOption = Annotated[str, typer.Option("--method", help="Method, such as base or duet.")]
TrunkOption = Annotated[str, typer.Option("--trunk", help="sasrec, gru4rec, din or pool.")]
SECTIONS: Final = ("rows", "train", "trunk")


@app.command("resolve")
def resolve_settings(
    method: MethodOption,
    trunk: TrunkOption = "sasrec",
    set_: SetOption = None,
    serve_: Annotated[
        list[str] | None,
        typer.Option("--serve", help="path=value of a cloud that is to serve it; may be repeated."),
    ] = None,
) -> None:
    """Check method, trunk and settings; print what they come to, and their keys, as JSON.

    ``key`` names a trained model, ``export_key`` the bundle that is made of it.
    """
    if serve_:
        from cloud_server.settings import ServeSettings

        validated(ServeSettings, "cloud", {"bundles": ".", **parse_settings(serve_)})
    settings = _settings(set_)
    if task_of(method) is Task.NODE_CLASSIFICATION:
        print(json.dumps(verbs.resolved(method, settings)))
        return
    # The number of items comes from the log, whose hash stands beside these keys in any cache.
    config = resolve(method, 1, trunk, settings)
    training = _training(settings).model_dump(mode="json")
    fields = config.model_dump(mode="json")
    about = {
        "method": method,
        "key": digest(method, config.digest, training, training_code(method, config.trunk)),
        "export_key": digest(fields, export_code(method)),
        "config": fields,
        "train": training,
    }
    print(json.dumps(about))


def _verb(name: str, about: str) -> None:
    """Add a training verb; all of them take the same options."""

    @app.command(name, help=about)
    def command(
        method: MethodOption,
        out: Annotated[Path, typer.Option("--out", help="Folder of this model.")],
        bundles: Annotated[
            Path | None, typer.Option(help="Folder of bundles; by default in that of the model.")
        ] = None,
        log: Annotated[
            str | None,
            typer.Option(help="movielens-100k, synthetic, a CSV or Parquet, a prepared log."),
        ] = None,
        table: Annotated[
            list[Path] | None,
            typer.Option(
                help="A table in the format of the method's original; of several, the last tests."
            ),
        ] = None,
        random: Annotated[
            int | None, typer.Option(help="Rows to draw by chance, for a method that reads rows.")
        ] = None,
        nproc: Annotated[
            int, typer.Option(min=1, help="Processes that train together on rows.")
        ] = 1,
        shifted_sequences: Annotated[
            bool,
            typer.Option("--shifted-sequences", help="Sequences of the table add 1 to each id."),
        ] = False,
        prefix: Annotated[
            Path | None, typer.Option(help="A graph in the format of the method's original.")
        ] = None,
        split: Annotated[
            str | None,
            typer.Option(help="Of a log: user-tail (default), global-time or leave-one-out."),
        ] = None,
        trunk: TrunkOption = "sasrec",
        seed: Annotated[int, typer.Option(min=0, help="Of weights and training.")] = 0,
        data_seed: Annotated[int, typer.Option(min=0, help="Of the test candidates.")] = 0,
        candidates: Annotated[
            str, typer.Option(help="Of the test: shortlist-100 or full.")
        ] = "shortlist-100",
        age: Annotated[int, typer.Option(min=0, help="Events since each overlay's window.")] = 0,
        user_col: Annotated[str | None, typer.Option(help="Column of users.")] = None,
        item_col: Annotated[str | None, typer.Option(help="Column of items.")] = None,
        time_col: Annotated[str | None, typer.Option(help="Column of times.")] = None,
        set_: SetOption = None,
    ) -> None:
        settings = _settings(set_)
        columns = (user_col, item_col, time_col)
        if task_of(method) is Task.NODE_CLASSIFICATION:
            brought = {"log": log, "table": table, "split": split, "*-col": any(columns)}
            left = verbs.Place(seed, out, bundles)
            verbs.carry_out(name, method, settings, prefix, brought, left)
            return

        from cloud_server.origin import Origin, origin_of

        given = Origin(log, table or [], shifted_sequences, split, columns)
        if random is not None or (table and rows_config(method) is not None):
            given.refuse_log("table" if random is None else "random")

            from cloud_server.rows.cli import run_on_rows
            from cloud_server.rows.origin import RowsOrigin

            rows = RowsOrigin(given.tables, random, data_seed)
            run_on_rows(name, method, rows, settings, seed=seed, processes=nproc, out=out)
            return
        if nproc > 1:
            raise BadSetting("nproc", "is of rows: give --table or --random of a method for them")
        resolve(method, 1, trunk, settings)
        training = _training(settings)
        origin = origin_of(method, settings, prefix, given)

        from cloud_server import jobs
        from shared_models.logs.fields import known_fields
        from shared_models.logs.moments import CANDIDATES

        if candidates not in CANDIDATES:
            raise UnknownName("candidates", candidates, CANDIDATES)
        prepared = origin.prepared()
        config = resolve(method, prepared.items, trunk, settings, known_fields(prepared))
        place = bundles or out / jobs.BUNDLES
        test = (seed, data_seed, candidates, age)
        job = jobs.Job(prepared, method, config, training, *test, out, place)
        jobs.VERBS[name](job)


_verb("train", "Train a model, compile it, and leave a bundle ready to serve.")
_verb("export", "Compile a trained model into a bundle that devices can run.")
_verb("evaluate", "Score the test part with torch alone; writes metrics.json.")
_verb("infer", "As evaluate, and write every score to predictions.parquet.")


@app.command()
def bpr(
    log: Annotated[str, typer.Option(help="A known log, a file, or a prepared log's folder.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the cut, weights and training.")] = 0,
) -> None:
    """Train matrix factorisation by BPR on a random cut, and test it beside popularity."""
    from cloud_server import jobs
    from shared_models.logs.prepare import Columns, open_or_prepare

    jobs.run_factors(open_or_prepare(log, Columns(), "user-tail"), seed, out)


@app.command()
def retrain(
    bundles: Annotated[Path, typer.Option("--bundles", help="Folder with released bundles.")],
    method: MethodOption,
    log: Annotated[str, typer.Option(help="The log that the method was first trained on.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for this training.")],
    journal: Annotated[
        Path | None, typer.Option(help="Journal of uploads; by default in that of bundles.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of the log, as it was then.")] = "user-tail",
    set_: SetOption = None,
) -> None:
    """Train what is released further, on what devices uploaded since, and release that.

    A cloud that serves the folder announces it at once. Settings: train.*.
    """
    settings = _settings(set_)
    for section in settings.keys() - {"train"}:
        raise BadSetting(section, "was decided when the method was first trained: set train.* only")
    training = _training(settings)

    from cloud_server.retrain import Retraining, run_retrain
    from cloud_server.settings import ServeSettings
    from shared_models.logs.prepare import Columns, open_or_prepare

    places = {"bundles": bundles, **({"journal": journal} if journal else {})}
    place = validated(ServeSettings, "cloud", places).journal_path
    if not place.is_file():
        raise PathMissing(place, "journal of uploads")
    prepared = open_or_prepare(log, Columns(), split)
    run_retrain(Retraining(method, bundles, place, prepared, training, out))


@app.command("refresh-memories")
def refresh(
    bundles: Annotated[Path, typer.Option("--bundles", help="Folder with released bundles.")],
    method: MethodOption,
    memory: Annotated[Path, typer.Option(help="Folder for what is remembered of users.")],
    journal: Annotated[
        Path | None, typer.Option(help="Journal of uploads; by default in DIR.")
    ] = None,
) -> None:
    """Make the memories of all users anew, in bulk; a cloud may serve meanwhile."""
    from cloud_server.remembered import refresh_memories
    from cloud_server.settings import ServeSettings

    places = {"bundles": bundles, "memory": memory, **({"journal": journal} if journal else {})}
    users = refresh_memories(validated(ServeSettings, "cloud", places), method)
    print(f"made the memories of {users:,} users anew in {memory}")


def main() -> None:
    """Run a command; a user meets messages and exit codes, never a stack trace."""
    try:
        failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
        app(standalone_mode=True)
    except ConcertoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _settings(pairs: list[str] | None) -> dict[str, Any]:
    settings = parse_settings(pairs or [])
    sections = (*SECTIONS, *method_names())
    for section in settings:
        if section not in sections:
            raise UnknownName("setting", section, sections)
    return settings


def _training(settings: Mapping[str, Any]) -> TrainSettings:
    return validated(TrainSettings, "train", settings.get("train", {}))


if __name__ == "__main__":
    main()
