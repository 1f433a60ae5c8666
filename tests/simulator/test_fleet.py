"""Processes of a run: started, watched, heard, and never left behind."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from shared_models.contract.errors import InputError, RunFailed
from simulator import fleet as fleet_module
from simulator.fleet import Fleet

Program = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Makes a module out of Python lines and gives its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(lines: str) -> str:
        (tmp_path / "a_program.py").write_text(lines)
        return "a_program"

    return make


async def forever() -> None:
    await asyncio.sleep(60)


async def test_work_ends_with_the_last_words_of_a_process_that_dies(
    program: Program, tmp_path: Path
) -> None:
    module = program("print('started')\nraise SystemExit('no room on the disk')")

    async with Fleet(tmp_path / "logs") as fleet:
        process = fleet.start("cloud", module)
        with pytest.raises(RunFailed) as caught:
            await fleet.while_alive(forever())

    assert "cloud ended (1): no room on the disk" in str(caught.value)
    assert str(process.log) in str(caught.value)


async def test_a_task_that_comes_to_its_end_is_no_death(program: Program, tmp_path: Path) -> None:
    module = program("print('half'); print('done')")

    async def work(fleet: Fleet) -> list[str]:
        lines = [line async for line in fleet.complete("training", module)]
        await asyncio.sleep(0.2)
        return lines

    async with Fleet(tmp_path) as fleet:
        assert await fleet.while_alive(work(fleet)) == ["half", "done"]


async def test_a_lost_link_is_explained_by_the_process_that_died(
    program: Program, tmp_path: Path
) -> None:
    module = program("import time; time.sleep(0.2); raise SystemExit('out of memory')")

    async def lose_the_link() -> None:
        raise RunFailed("device process 7 went away")

    async with Fleet(tmp_path) as fleet:
        fleet.start("device-0", module)
        with pytest.raises(RunFailed, match="out of memory"):
            await fleet.while_alive(lose_the_link())


async def test_work_that_is_done_gives_its_result(program: Program, tmp_path: Path) -> None:
    async def answer() -> int:
        return 42

    async with Fleet(tmp_path) as fleet:
        fleet.start("cloud", program("import time; time.sleep(60)"))

        assert await fleet.while_alive(answer()) == 42


async def test_leaving_a_fleet_ends_every_process_even_a_deaf_one(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "_GRACE", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"

    async with Fleet(tmp_path) as fleet:
        process = fleet.start("deaf", program(deaf + "print('ready')\ntime.sleep(60)"))
        await fleet.line(process, "ready", 10)

    assert not psutil.pid_exists(process.pid)


async def test_a_process_is_ready_when_it_says_so(program: Program, tmp_path: Path) -> None:
    module = program("import time; print('listening on 127.0.0.1:5'); time.sleep(60)")

    async with Fleet(tmp_path) as fleet:
        process = fleet.start("cloud", module)

        assert await fleet.line(process, "listening on ", 10) == "127.0.0.1:5"


async def test_a_process_that_ends_before_it_is_ready_is_told(
    program: Program, tmp_path: Path
) -> None:
    async with Fleet(tmp_path) as fleet:
        process = fleet.start("cloud", program("raise SystemExit('port taken')"))

        with pytest.raises(RunFailed, match="port taken"):
            await fleet.line(process, "listening on ", 10)


async def test_a_program_is_heard_line_by_line_to_its_end(program: Program, tmp_path: Path) -> None:
    module = program("print('epoch 1')\nprint('epoch 2')")

    async with Fleet(tmp_path) as fleet:
        lines = [line async for line in fleet.complete("train", module)]

    assert lines == ["epoch 1", "epoch 2"]


async def test_wrong_input_stays_wrong_input_across_processes(
    program: Program, tmp_path: Path
) -> None:
    module = program("import sys; print('error: no such trunk', file=sys.stderr); sys.exit(2)")

    async with Fleet(tmp_path) as fleet:
        with pytest.raises(InputError, match=r"^no such trunk$"):
            [line async for line in fleet.complete("train", module)]


async def test_children_keep_to_one_thread(program: Program, tmp_path: Path) -> None:
    module = program("import os; print(os.environ['OMP_NUM_THREADS'])")

    async with Fleet(tmp_path) as fleet:
        assert [line async for line in fleet.complete("child", module)] == ["1"]
