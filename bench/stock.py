"""What the benched cloud serves: quickly trained methods, and beside DUET a bundle of 20 MB."""

import asyncio
import shutil
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.processes import Server, serving
from shared_models.contract.bundle import Bundle, BundleStore
from shared_models.logs.prepare import cache_root
from simulator.cache import BundleCache, Trained
from simulator.experiment import plan
from simulator.scenario import Scenario

LARGE_BYTES = 20_000_000


def quickly_trained(method: str, **settings: bool) -> Trained:
    """A method after one epoch on the synthetic world: how good it is does not matter here."""
    own = {method: settings} if settings else {}
    scenario = Scenario(methods=(method,), log="synthetic", train={"epochs": 1}, settings=own)
    played = plan(scenario)
    cache = BundleCache(cache_root(), scenario.split, played.log.folder, played.log.hash)
    return asyncio.run(cache.trained(played.plays[0].resolved, 0, print))


class Stock:
    """Bundles of a method in a folder of their own; made when first asked for."""

    def __init__(self, folder: Path, method: str = "duet", **settings: bool) -> None:
        self._folder, self._method, self._settings = folder, method, settings

    @cached_property
    def ranking(self) -> "Stock":
        """Another one, of a method whose cloud ranks."""
        return Stock(self._folder / "ranking", "dlrm")

    @cached_property
    def trained(self) -> Trained:
        """A copy of what was `quickly_trained`, to serve and to add to."""
        trained = quickly_trained(self._method, **self._settings)
        bundles = self._folder / "bundles"
        shutil.copytree(trained.bundles, bundles)
        return Trained(bundles, trained.bundle)

    @cached_property
    def large(self) -> str:
        """Id of a bundle with the graphs of `trained`, and random bytes, which do not compress."""
        trained = self.trained
        manifest = trained.bundle.manifest.model_dump(exclude={"files"})
        noise = np.random.default_rng(0).bytes(LARGE_BYTES)
        large = Bundle.make(manifest, {**trained.bundle.files, "table.bin": noise})
        BundleStore(trained.bundles).add(large)
        return large.id

    def cloud(self, *flags: str) -> AbstractContextManager[Server]:
        """The real cloud, serving all of it; with these settings over its own."""
        place = ("--bundles", str(self.trained.bundles), "--listen", "127.0.0.1:0")
        journal = ("--journal", str(self._folder / f"journal{''.join(flags)}.sqlite"))
        settings = (part for flag in ("replays=true", *flags) for part in ("--set", flag))
        return serving("cloud_server.cli", "serve", *place, *journal, *settings)
