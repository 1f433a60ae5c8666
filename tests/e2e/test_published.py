"""The check's own way of measuring, over a small world: ordinary runs, and torch beside them."""

from pathlib import Path

import pytest
from rich.console import Console

from simulator.progress import Display
from simulator.published import measure as module
from simulator.published.bands import CHECKS, RECIPE

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """The recipe of the check on the synthetic world, for an epoch."""
    monkeypatch.setenv("CONCERTO_CACHE", str(cache))
    monkeypatch.setattr(module, "LOG", "synthetic")
    recipe = {**RECIPE, "log": "synthetic", "train": {"rows": 32, "epochs": 1}}
    monkeypatch.setattr(module, "RECIPE", recipe)


@pytest.mark.usefixtures("small")
async def test_devices_rank_what_torch_ranks(tmp_path: Path) -> None:
    trunk = {**(CHECKS["sasrec"].trunk or {}), "width": 16}

    measured = await module.sequential(trunk, [0], tmp_path, Display(Console(quiet=True)))

    assert set(measured) == {band.figure for band in CHECKS["sasrec"].bands}
    assert measured["ranks that torch moves"] == [0]
    assert measured["HR@10"] == pytest.approx(measured["HR@10, torch alone"], abs=1e-3)
    assert "leave-one-out" in (tmp_path / "scenario.yaml").read_text()
    assert "history not masked" in (tmp_path / "metrics.json").read_text()


@pytest.mark.usefixtures("small")
async def test_factors_are_trained_by_a_process_for_each_seed(tmp_path: Path) -> None:
    measured = await module.bpr([0, 1], tmp_path, Display(Console(quiet=True)))

    assert set(measured) == {band.figure for band in CHECKS["bpr"].bands}
    assert all(len(by_seed) == 2 and min(by_seed) > 0 for by_seed in measured.values())
    assert (tmp_path / "seed-1" / "metrics.json").is_file()


@pytest.mark.usefixtures("small")
def test_popularity_is_counted_without_any_process() -> None:
    (hit_rate,) = module.popularity()["HR@10"]

    assert 0 < hit_rate < 1
