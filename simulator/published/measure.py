"""How each figure is measured: by an ordinary run, by the cloud's commands, or by counting."""

# Shapes: M moments, V items.

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shared_models.contract.bundle import TOLERANCE
from shared_models.contract.metrics import Ranked, UserMetric, evaluate, middle_ranks
from shared_models.contract.tensors import Float32Array
from shared_models.logs.moments import FULL, Moments, replay_moments
from shared_models.logs.prepare import Columns, open_or_prepare
from shared_models.logs.prepared import PreparedLog
from simulator.compose import compose
from simulator.experiment import Plan, perform, plan
from simulator.fleet import Fleet
from simulator.metrics import ReplayMetrics
from simulator.progress import Display
from simulator.published.bands import LOG, RECIPE, Check
from simulator.published.verdict import Measured
from simulator.sites import CLOUD


async def measure(
    about: Check, seeds: Sequence[int] | None, out: Path, display: Display
) -> Measured:
    """Every figure of a check.

    Args:
        about: the check.
        seeds: of the model; None: the check's own.
        out: folder for what the runs leave.
        display: told how they go.

    Raises:
        RunFailed: a process ended badly.
    """
    if not about.seeds:
        return popularity()
    chosen = seeds or about.seeds
    if about.trunk is None:
        return await bpr(chosen, out, display)
    return await sequential(about.trunk, chosen, out, display)


def left_out() -> PreparedLog:
    """MovieLens-100K with each user's last event left out."""
    return open_or_prepare(LOG, Columns(), RECIPE["split"])


def popularity() -> Measured:
    """Items ranked by how often the training part holds them, the same for everybody."""
    log = left_out()
    moments = replay_moments(log, FULL)
    count_V = np.bincount(log.train["item"].to_numpy(), minlength=log.items + 1)
    scores = count_V.astype(np.float32)[moments.candidates]
    return {"HR@10": [_metrics(log, moments, scores)["hr@10"].value]}


async def sequential(
    trunk: Mapping[str, Any], seeds: Sequence[int], out: Path, display: Display
) -> Measured:
    """Train, replay on devices, and score the same weights by torch alone."""
    scenario = compose(None, {**RECIPE, "trunk": trunk, "seeds": list(seeds), "out": out})
    planned = plan(scenario)
    await perform(planned, display, ReplayMetrics())
    by_torch = [await _torch_scores(planned, seed, out) for seed in seeds]
    by_devices = [_device_scores(out / f"rankings-base-{seed}.parquet") for seed in seeds]
    log, moments = planned.log, planned.moments
    (popular,) = popularity()["HR@10"]
    devices, torch = (
        [_metrics(log, moments, scores) for scores in all_scores]
        for all_scores in (by_devices, by_torch)
    )
    pairs = zip(by_devices, by_torch, strict=True)
    return {
        "HR@10": [found["hr@10"].value for found in devices],
        "NDCG@10": [found["ndcg@10"].value for found in devices],
        "HR@10 / popularity": [found["hr@10"].value / popular for found in devices],
        "HR@10, torch alone": [found["hr@10"].value for found in torch],
        "NDCG@10, torch alone": [found["ndcg@10"].value for found in torch],
        "ranks that torch moves": [moved_ranks(moments, *pair) for pair in pairs],
    }


async def bpr(seeds: Sequence[int], out: Path, display: Display) -> Measured:
    """Matrix factorisation in the cloud, a process for each seed."""
    log = left_out()
    cores = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(seed: int) -> dict[str, Any]:
        async with cores:
            folder = out / f"seed-{seed}"
            where = ("--log", str(log.folder), "--seed", str(seed), "--out", str(folder))
            await _complete(f"bpr-{seed}", out, "bpr", *where)
        found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
        display.say(f"bpr (seed {seed}): NDCG@10 {found['bpr']['ndcg@10']:.4f}")
        return found

    all_found = await asyncio.gather(*map(one, seeds))
    ndcg, popular = ([f[model]["ndcg@10"] for f in all_found] for model in ("bpr", "popularity"))
    return {
        "NDCG@10": ndcg,
        "Hit@10": [found["bpr"]["hit@10"] for found in all_found],
        "NDCG@10 of popularity": popular,
        "NDCG@10 / popularity": [a / b for a, b in zip(ndcg, popular, strict=True)],
    }


def moved_ranks(moments: Moments, ours: Float32Array, theirs: Float32Array) -> int:
    """At how many moments two scorers rank what was taken apart by more than ties explain.

    Candidates that score as the taken one does, within the project's tolerance for the scores of
    device and torch, may stand on either side of it.
    """
    ours_M, theirs_M = (middle_ranks(_ranked(moments, scores)) for scores in (ours, theirs))
    scores_MV = theirs.reshape(len(moments), -1)
    taken_M1 = theirs[moments.labels][:, None]
    tie_M1 = 2 * TOLERANCE * np.maximum(1, np.abs(taken_M1))
    ties_M = (np.abs(scores_MV - taken_M1) <= tie_M1).sum(axis=1) - 1
    return int((np.abs(ours_M - theirs_M) > ties_M).sum())


async def _torch_scores(planned: Plan, seed: int, out: Path) -> Float32Array:
    """The scores of every moment by torch alone, from the weights that devices ran."""
    (play,) = planned.plays
    model = planned.cache.entry(play.resolved, seed)
    where = ("--log", str(planned.log.folder), "--seed", str(seed), "--out", str(model))
    arguments = (*play.resolved.arguments, *where, "--candidates", FULL)
    await _complete(f"torch-{seed}", out, "infer", *arguments)
    return pl.read_parquet(model / "predictions.parquet")["score"].to_numpy()


async def _complete(name: str, out: Path, *arguments: str) -> None:
    async with Fleet(out / "logs") as fleet:
        async for _ in fleet.complete(name, CLOUD, *arguments):
            pass


def _device_scores(rankings: Path) -> Float32Array:
    scores: Float32Array = pl.read_parquet(rankings)["scores"].explode().to_numpy()
    return scores


def _metrics(log: PreparedLog, moments: Moments, scores: Float32Array) -> dict[str, UserMetric]:
    return evaluate(_ranked(moments, scores), log.users)


def _ranked(moments: Moments, scores: Float32Array) -> Ranked:
    return Ranked(moments.user, moments.sizes, moments.labels, scores)
