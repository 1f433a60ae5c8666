"""Faults that overlap, and trainings that die elsewhere than they should."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared_models.contract.errors import RunFailed
from simulator import retraining
from simulator.chaos import Chaos
from simulator.faults import CutLink
from simulator.fleet import Fleet, ProcessKilled


class Link:
    """A proxy that notes what is done to it."""

    def __init__(self) -> None:
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True

    def mend(self) -> None:
        self.is_cut = False


async def test_a_link_that_is_cut_twice_is_mended_when_the_longer_cut_is_over() -> None:
    proxy: Any = Link()
    troupe: Any = SimpleNamespace(proxy=proxy)
    chaos = Chaos([], lambda: 0, lambda: None)  # type: ignore[arg-type, return-value]
    first, second = (
        asyncio.create_task(chaos._disturb(CutLink(kind="cut-link", seconds=seconds), troupe))
        for seconds in (0.05, 0.3)
    )

    await first
    assert proxy.is_cut
    await second
    assert not proxy.is_cut


def job() -> Any:
    how = SimpleNamespace(say=print)
    return SimpleNamespace(name="retrain", arguments=(), title="base", how=how, own=Path())


@pytest.mark.parametrize(
    ("ends", "failed", "unreached"),
    [(ProcessKilled("at the place"), ["retrain.grown"], []), (None, [], ["retrain.grown"])],
)
async def test_a_training_dies_at_its_place_or_never_comes_to_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ends: Exception | None,
    failed: list[str],
    unreached: list[str],
) -> None:
    drill: Any = SimpleNamespace(
        retraining=deque(["retrain.grown"]), failed_trainings=[], unreached=[]
    )
    monkeypatch.setattr(Fleet, "complete", ending(ends))

    over = await retraining._is_over(Fleet(tmp_path), job(), 1, drill)

    assert over is (ends is None)
    assert (drill.failed_trainings, drill.unreached) == (failed, unreached)


async def test_a_training_that_fails_by_itself_did_not_die_at_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drill: Any = SimpleNamespace(retraining=deque(["retrain.grown"]), failed_trainings=[])
    monkeypatch.setattr(Fleet, "complete", ending(RunFailed("training ended (1): diverged")))

    with pytest.raises(RunFailed, match="diverged"):
        await retraining._is_over(Fleet(tmp_path), job(), 1, drill)


def ending(ends: Exception | None) -> Any:
    """What stands for a process that says a line and then ends like this."""

    async def complete(*_: Any, **__: Any) -> AsyncIterator[str]:
        yield "base: epoch 1"
        if ends is not None:
            raise ends

    return complete
