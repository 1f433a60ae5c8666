"""A run whose cloud is hosted elsewhere, and whose device processes come by themselves."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Run, command, free_addresses
from tests.runs import comparable, found, payload

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]
CLOUD, DEVICE = "cloud_server.cli", "device_client.cli"
PLAYED = ("--method", "base", "--method", "duet")


@contextmanager
def started(module: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def hosted(*options: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A cloud's host, and where it listens."""
    with started(CLOUD, "host", "--listen", "127.0.0.1:0", *options) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip(), process


def test_a_run_over_hosts_gives_the_figures_and_payload_of_one_that_starts_all_by_itself(
    concerto_run: Run, tmp_path: Path
) -> None:
    concerto_run(tmp_path / "here", *PLAYED, "--devices", "1")
    serve, listen = free_addresses(2)
    places = ("--cloud", serve, "--simulation", listen, "--set", "connect_s=120")

    with (
        hosted("--once") as (address, host),
        started(DEVICE, "run", *places, "--bundles", str(tmp_path / "a")) as one,
        started(DEVICE, "run", *places, "--bundles", str(tmp_path / "b")) as other,
    ):
        there = ("--cloud-host", address, "--serve", serve, "--listen", listen)
        concerto_run(tmp_path / "there", *PLAYED, *there)
        ended = [process.wait(timeout=30) for process in (host, one, other)]

    here, there_ = tmp_path / "here", tmp_path / "there"
    assert ended == [0, 0, 0]
    assert comparable(found(there_)) == comparable(found(here))
    assert payload(there_).equals(payload(here))
    assert len(found(there_, "environment.json")["devices"]) == 2
    assert all(cloud["resident_bytes"] > 0 for cloud in found(there_, "environment.json")["clouds"])


def test_a_setting_that_the_hosted_cloud_refuses_is_told_in_its_words(
    cache: Path, tmp_path: Path
) -> None:
    with hosted() as (address, _):
        there = ("--cloud-host", address, "--listen", "127.0.0.1:0")
        done = command("simulator.cli", "run", "--method", "duett", *there, cache=cache)

    assert done.returncode == 2
    assert "unknown method 'duett': did you mean 'duet'?" in done.stderr


def test_nobody_at_the_address_of_a_host_is_told_without_a_trace(cache: Path) -> None:
    done = command("simulator.cli", "run", "--cloud-host", free_addresses(1)[0], cache=cache)

    assert done.returncode == 2
    assert "no `concerto-cloud host` answers at 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
