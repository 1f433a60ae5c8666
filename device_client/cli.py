"""concerto-device: a process that hosts devices."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from device_client.agent import Agent
from device_client.host import Host
from device_client.settings import DeviceSettings, default_bundles
from shared_models.contract.errors import BadSetting, ConcertoError, InputError
from shared_models.contract.events import Event
from shared_models.contract.settings import parse_settings, validated

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """A process that hosts devices."""


@app.command()
def run(
    cloud: Annotated[str, typer.Option(help="HOST:PORT of the cloud.")],
    simulation: Annotated[str | None, typer.Option(help="HOST:PORT of a simulator.")] = None,
    method: Annotated[
        str, typer.Option(help="Method to run; empty for the cloud's only one.")
    ] = "",
    bundles: Annotated[Path | None, typer.Option(help="Folder for downloaded bundles.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="setting=value; may be repeated.")
    ] = None,
) -> None:
    """Host devices: for a simulator, or for whoever writes JSON lines to standard input.

    Without --simulation each input line is {"user": 1, "observe": 7, "at": 12.5} or
    {"user": 1, "rank": [3, 7], "at": 12.5}; a ranking is answered with one line.
    """
    fields = parse_settings(set_ or [])
    settings = validated(DeviceSettings, "device", fields)
    folder = bundles or default_bundles(os.environ.get("CONCERTO_CACHE"), Path.home())
    for address in filter(None, (cloud, simulation)):
        _check_address(address)
    if simulation:
        asyncio.run(Agent(cloud, simulation, folder, fields).run())
    else:
        asyncio.run(_by_lines(cloud, method, folder, settings))


def main() -> None:
    """Run a command; a user meets messages and exit codes, never a stack trace."""
    try:
        app()
    except ConcertoError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


async def _by_lines(cloud: str, method: str, folder: Path, settings: DeviceSettings) -> None:
    host = await Host.start(cloud, method, folder, settings, waits=False)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            answer = await _said(host, line)
            if answer is not None:
                print(json.dumps(answer), flush=True)
        await host.flush(0.0)
    finally:
        await host.close()


async def _said(host: Host, line: str) -> dict[str, Any] | None:
    try:
        said = json.loads(line)
        client, at = host.client(int(said["user"])), float(said.get("at", 0))
        candidates = np.array(said.get("rank", []), np.int64)
        observed = int(said["observe"]) if "rank" not in said else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not a line that a device reads: {line.strip()[:100]!r}") from error
    if observed is not None:
        client.observe(Event(observed, at))
        await client.upload(at)
        return None
    ranking = await client.rank(candidates, at)
    return {
        "items": ranking.items.tolist(),
        "scores": [round(float(score), 6) for score in -np.sort(-ranking.scores)],
        "source": ranking.source,
        "overlay_age": ranking.overlay_age,
    }


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise BadSetting("address", f"expected HOST:PORT, got {address!r}")


if __name__ == "__main__":
    main()
