"""Runs over real processes that play cloud and devices: none outlives a run."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import psutil
import pytest

from shared_models.contract.errors import BadSetting, RunFailed
from simulator import stage as stage_module
from simulator.cache import Resolved, Trained
from simulator.replay import Replay
from simulator.rounds import Rules
from simulator.runs import Run
from simulator.scenario import Scenario
from simulator.stage import open_stage
from tests.simulator.conftest import MOMENTS, USERS, make_bundle, make_moments

NOBODY = 65534
CLOUD = """
import os, sys, time
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
print("asked to listen on", options["--listen"])
if "CLOUD_COUNTS" in os.environ:
    import polars as pl
    counts = {"user": [0], "purpose": ["refresh"], "bytes_up": [int(os.environ["CLOUD_COUNTS"])]}
    times = {"ask": [1], "bytes_down": [0], "queue_seconds": [0.0], "compute_seconds": [0.0]}
    frame = pl.DataFrame({**counts, **times})
    frame.write_parquet(options["--ledger"], metadata={"connections": "[]"})
print("listening on 127.0.0.1:4321", flush=True)
if "CLOUD_DIES" in os.environ:
    time.sleep(1)
    sys.exit("the cloud ran out of disk")
time.sleep(60)
"""

DEVICE = """
import asyncio, os, sys
from tests.simulator.conftest import FakeDevices
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))

def on_round(fake, number):
    if str(number) == os.environ.get("DEVICE_DIES"):
        sys.exit("the device ran out of memory")

fake = FakeDevices(os.getpid(), os.environ["FAKE_BUNDLE"])
if "DEVICE_HANGS" in os.environ:
    fake.hangs = True
print("told of a cloud at", options["--cloud"], flush=True)
asyncio.run(fake.run(options["--simulation"], on_round))
"""


@pytest.fixture(autouse=True)
def _fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_cloud.py").write_text(CLOUD)
    (tmp_path / "fake_device.py").write_text(DEVICE)
    monkeypatch.setattr(stage_module, "CLOUD", "fake_cloud")
    monkeypatch.setattr(stage_module, "DEVICE", "fake_device")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path.cwd())]))
    monkeypatch.setenv("FAKE_BUNDLE", make_bundle().id)


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    return Scenario(methods=("fake",), devices=2, out=tmp_path / "out")


def make_run(seed: int) -> Run:
    windows = {user: [user + 1] for user in range(USERS)}
    replay = Replay(make_moments(), windows, make_bundle(), Rules(round_events=20))
    resolved = Resolved("fake", "sasrec", (), "key", "export", {})
    return Run("fake", resolved, seed, Trained(Path("bundles"), make_bundle()), replay)


def pids(run: Run) -> list[int]:
    return [account.pid for account in run.accounts]


async def test_device_processes_stay_for_all_runs_and_clouds_come_and_go(
    scenario: Scenario,
) -> None:
    first, second = make_run(0), make_run(1)

    async with open_stage(scenario) as stage:
        await stage.play(first)
        await stage.play(second)
        await stage.dismiss()

    assert first.replay.tally.ranked.sum() == second.replay.tally.ranked.sum() == MOMENTS
    assert pids(first) == pids(second)
    assert len(stage.clouds) == 2
    assert all(size > 1 << 20 for size in stage.clouds.values())
    assert not any(psutil.pid_exists(pid) for pid in [*pids(first), *stage.clouds])


async def test_every_cloud_takes_the_address_that_devices_know(scenario: Scenario) -> None:
    async with open_stage(scenario) as stage:
        await stage.play(make_run(0))
        await stage.play(make_run(1))

    asked = [
        (scenario.folder / "logs" / f"cloud-fake-{seed}.log").read_text().splitlines()[0]
        for seed in (0, 1)
    ]
    assert asked == ["asked to listen on 127.0.0.1:0", "asked to listen on 127.0.0.1:4321"]


@pytest.mark.parametrize(
    ("switch", "value", "words"),
    [
        ("DEVICE_DIES", "3", "device-. ended .*: the device ran out of memory; its log: .*device-"),
        ("CLOUD_DIES", "1", "cloud-fake-0 ended .*: the cloud ran out of disk"),
    ],
)
async def test_a_process_that_dies_ends_the_run_in_its_own_words_and_takes_all_with_it(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, switch: str, value: str, words: str
) -> None:
    monkeypatch.setenv(switch, value)
    if switch == "CLOUD_DIES":
        monkeypatch.setenv("DEVICE_HANGS", "1")
    before = {child.pid for child in psutil.Process().children()}

    async with open_stage(scenario) as stage:
        with pytest.raises(RunFailed, match=words):
            await stage.play(make_run(0))

    assert {child.pid for child in psutil.Process().children()} <= before


async def test_a_cloud_that_counted_other_bytes_than_the_devices_fails_the_run(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_COUNTS", "11")
    run = make_run(0)

    async with open_stage(scenario) as stage:
        with pytest.raises(RunFailed, match="the ledgers of devices and cloud differ"):
            await stage.play(run)

    assert run.accounts, "what was measured is still written"


@pytest.fixture
def nobody() -> Iterator[None]:
    """Works as a user who may write nowhere in ``tmp_path``, where the tests run as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(before)


@pytest.mark.usefixtures("nobody")
async def test_a_folder_that_may_not_be_written_is_told_before_anything_starts(
    tmp_path: Path, scenario: Scenario
) -> None:
    if os.geteuid() != NOBODY:
        tmp_path.chmod(0o500)

    with pytest.raises(BadSetting, match=r"'out': .*out cannot be written: Permission denied"):
        async with open_stage(scenario):
            pass


def refusing(folder: Path) -> Callable[..., IO[bytes]]:
    """Makes a file in any folder but in this one, where nobody may write, the tests' user too."""

    def made(dir: Path) -> IO[bytes]:  # noqa: A002 - the library's name
        if dir == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return TemporaryFile(dir=dir)

    return made


@pytest.mark.parametrize("name", ["logs", "journals", "journals/fake-0"])
async def test_a_folder_inside_that_may_not_be_written_is_told_before_anything_starts(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    inside = scenario.folder / name
    inside.mkdir(parents=True)
    monkeypatch.setattr("simulator.places.TemporaryFile", refusing(inside))

    with pytest.raises(BadSetting, match=rf"out/{name} cannot be written: Permission denied"):
        async with open_stage(scenario):
            pass


async def test_results_inside_a_file_are_told_before_anything_starts(
    tmp_path: Path, scenario: Scenario
) -> None:
    (tmp_path / "file").touch()
    inside = scenario.model_copy(update={"out": tmp_path / "file" / "out"})

    with pytest.raises(BadSetting, match=r"'out': .*file/out cannot be written: Not a dir"):
        async with open_stage(inside):
            pass


async def test_the_ledger_of_an_earlier_cloud_is_not_this_ones(scenario: Scenario) -> None:
    scenario.folder.mkdir()
    (scenario.folder / "exchanges-fake-0.parquet").write_text("of yesterday")
    run = make_run(0)

    async with open_stage(scenario) as stage:
        await stage.play(run)

    assert run.cloud is None, "it was killed before it could write"


async def test_what_an_earlier_run_stored_is_not_the_past_of_this_one(scenario: Scenario) -> None:
    journal = scenario.folder / "journals" / "fake-0" / "journal.sqlite"
    journal.parent.mkdir(parents=True)
    journal.write_text("events of yesterday")

    async with open_stage(scenario) as stage:
        await stage.play(make_run(0))

    assert not journal.exists()


async def test_devices_dial_the_proxy_of_their_link_which_ends_with_the_stage(
    scenario: Scenario,
) -> None:
    run = make_run(0)

    async with open_stage(scenario.model_copy(update={"link": "4g"})) as stage:
        await stage.play(run)
        proxy = (scenario.folder / "logs" / "link.log").read_text()
        (running,) = [p for p in psutil.Process().children() if "shape" in p.cmdline()]
        command = running.cmdline()
        await stage.dismiss()

    address = proxy.removeprefix("listening on ").strip()
    told = (scenario.folder / "logs" / "device-0.log").read_text()
    assert told == f"told of a cloud at {address}\n"
    assert command[-8:] == [
        *("--link", "4g", "--to", "127.0.0.1:4321"),
        *("--listen", "127.0.0.1:0", "--seed", "0"),
    ]
    assert not psutil.pid_exists(running.pid)


async def test_without_a_link_devices_dial_the_cloud(scenario: Scenario) -> None:
    async with open_stage(scenario) as stage:
        await stage.play(make_run(0))
        await stage.dismiss()

    told = (scenario.folder / "logs" / "device-0.log").read_text()
    assert told == "told of a cloud at 127.0.0.1:4321\n"
    assert not (scenario.folder / "logs" / "link.log").exists()
