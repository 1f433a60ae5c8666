"""Commands of `concerto-cloud` that others talk to: serve, and host."""

from pathlib import Path
from typing import Annotated

import typer

from shared_models.contract.log_lines import LogFormat, start_logging
from shared_models.contract.settings import parse_settings, validated

SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="path.to.setting=value; may be repeated.")
]
IdentityOption = Annotated[
    Path | None,
    typer.Option(help="The cloud's own: all is mutual TLS.", envvar="CONCERTO_CLOUD_IDENTITY"),
]
PlaintextOption = Annotated[
    bool,
    typer.Option(
        "--plaintext", help="In clear, also off loopback.", envvar="CONCERTO_CLOUD_PLAINTEXT"
    ),
]


def serve(
    bundles: Annotated[Path, typer.Option("--bundles", help="Folder with released bundles.")],
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT; port 0 takes a free one.")],
    journal: Annotated[
        Path | None, typer.Option(help="Journal of uploads; by default in DIR.")
    ] = None,
    memory: Annotated[
        Path | None, typer.Option(help="Folder for what is remembered of users; else in memory.")
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="Parquet file to account for every exchange in.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="HOST:PORT for Prometheus, or PORT of this machine alone.")
    ] = None,
    log: Annotated[LogFormat | None, typer.Option(help="How lines on standard error look.")] = None,
    identity: IdentityOption = None,
    plaintext: PlaintextOption = False,
    set_: SetOption = None,
) -> None:
    """Serve bundles and personalise for devices until told to stop."""
    from cloud_server.server import run_server
    from cloud_server.settings import ServeSettings

    fields = {**parse_settings(set_ or []), "bundles": bundles, "listen": listen}
    places = {"journal": journal, "memory": memory, "ledger": ledger, "identity": identity}
    given = {**places, "metrics": metrics, "log": log}
    fields |= {name: value for name, value in given.items() if value is not None}
    fields |= {"plaintext": True} if plaintext else {}
    settings = validated(ServeSettings, "cloud", fields)
    start_logging(settings.log)
    run_server(settings)


def host(
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT that simulators dial.")],
    once: Annotated[bool, typer.Option(help="End when the first simulator has gone.")] = False,
    identity: IdentityOption = None,
    plaintext: PlaintextOption = False,
) -> None:
    """Train and serve for simulators on other machines, until told to stop.

    Both must see the same folders, by the same names: those of the run, and of the cache.
    """
    import asyncio

    from cloud_server.host import HostSettings, run_host
    from shared_models.contract.processes import schedule_as_batch

    schedule_as_batch()
    settings = HostSettings(listen, identity, plaintext)
    asyncio.run(
        run_host(settings, once=once, ready=lambda at: print(f"listening on {at}", flush=True))
    )
