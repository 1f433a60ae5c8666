"""concerto-device: a process that hosts devices."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from device_client.agent import Agent
from device_client.host import hosted
from device_client.ledger import DeviceLedger
from device_client.lines import answer, read_lines
from device_client.settings import DeviceSettings
from shared_models.contract.errors import ConcertoError
from shared_models.contract.log_lines import LogFormat, note, start_logging
from shared_models.contract.processes import schedule_as_batch
from shared_models.contract.settings import parse_settings, validated

_log = logging.getLogger(__name__)
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """A process that hosts devices."""


@app.command()
def run(
    cloud: Annotated[str | None, typer.Option(help="HOST:PORT of the cloud.")] = None,
    simulation: Annotated[
        str | None, typer.Option(help="HOST:PORT of a simulation that gives orders.")
    ] = None,
    bundles: Annotated[Path | None, typer.Option(help="Folder of fetched bundles.")] = None,
    identity: Annotated[
        Path | None, typer.Option(help="Folder of this process's identity: mutual TLS.")
    ] = None,
    plaintext: Annotated[
        bool, typer.Option("--plaintext", help="In clear, also to another machine.")
    ] = False,
    method: Annotated[
        str, typer.Option(help="Method to run; by default the cloud's only one.")
    ] = "",
    log: Annotated[LogFormat | None, typer.Option(help="How lines on standard error look.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="path.to.setting=value; may be repeated.")
    ] = None,
) -> None:
    """Host devices: for a simulation, or for whoever writes JSON lines to standard input.

    Without --simulation each line of input is {"user": 1, "rank": [3, 7]} or
    {"user": 1, "observe": 7, "at": 12.5}, and is answered by one line of output: a ranking comes
    with its scores, best first, and with what it was made of.
    """
    given = {"cloud": cloud, "simulation": simulation, "bundles": bundles, "identity": identity}
    given |= {"log": log}
    named: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    named |= {"plaintext": True} if plaintext else {}
    settings = validated(DeviceSettings, "device", {**parse_settings(set_ or []), **named})
    start_logging(settings.log)
    if settings.simulation:
        schedule_as_batch()
        asyncio.run(Agent(settings, settings.simulation).follow())
    else:
        _by_lines(settings, method, sys.stdin)


def main() -> None:
    """Run a command; a user meets messages and exit codes, never a stack trace."""
    try:
        app()
    except ConcertoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _by_lines(settings: DeviceSettings, method: str, lines: Iterable[str]) -> None:
    # Waiting for input between two runs of the loop, not inside it: so Ctrl-C ends the wait.
    with asyncio.Runner() as runner:
        open_host = AsyncExitStack()
        host, _ = runner.run(
            open_host.enter_async_context(
                hosted(settings, method, DeviceLedger(), seed=os.getpid())
            )
        )
        note(_log, "ready", bundle=host.scorer.bundle_id, cloud=settings.cloud)
        try:
            for line in read_lines(lines):
                print(json.dumps(runner.run(answer(host, line))), flush=True)
            runner.run(host.flush())
        finally:
            runner.run(open_host.aclose())


if __name__ == "__main__":
    main()
