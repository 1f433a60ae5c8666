"""One run on a graph: a bundle, played by device processes whose graphs grow step by step."""

# Shapes: M nodes of a device, C classes.

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import zstandard

from protos.v1.simulation_pb2 import Arrival, Begin, Classified, Round, RoundDone
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import RunFailed
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.logs.graphs.labelled import LabelledGraph
from simulator.coordinator import DeviceLink
from simulator.graphs.holdings import Holding
from simulator.replay import Account, Release, Retrain, all_of, begun
from simulator.rounds import Share

_LEVEL: Final = 1


class GraphReplay:
    """Plays a bundle; fills `said` and `seconds`, also where the run is cut short.

    Args:
        graph: that the holdings are of.
        holdings: what devices hold; their users are their places here.
        bundle: what devices should run.
        device: settings of every device as JSON.

    Attributes:
        graph: as given.
        holdings: as given.
        releases: what devices ran.
        said: by step and user, float32 (asked nodes, C).
        seconds: the same, what the classification took.
    """

    def __init__(
        self, graph: LabelledGraph, holdings: Sequence[Holding], bundle: Bundle, device: str = "{}"
    ) -> None:
        self.graph, self.holdings, self._device = graph, holdings, device
        self.releases = [Release(bundle, 0)]
        self.said: dict[tuple[int, int], Float32Array] = {}
        self.seconds: dict[tuple[int, int], float] = {}

    @property
    def steps(self) -> int:
        """Times at which graphs grow."""
        return len(self.holdings[0].ends)

    @property
    def played(self) -> int:
        """Steps that came to their end: every device classified."""
        said = Counter(step for step, _ in self.said)
        return sum(count == len(self.holdings) for count in said.values())

    async def play(
        self, links: Sequence[DeviceLink], retrain: Retrain | None = None
    ) -> list[Account]:
        """Play all steps; devices are spread over ``links``.

        Raises:
            RunFailed: a process failed, went away, or reported nonsense.
        """
        if retrain is not None:
            raise RunFailed("nothing is uploaded of graphs, so nothing can be trained on")
        bundle = self.releases[0].bundle
        order = Begin(method=bundle.manifest.method, settings=self._device)
        ready = await all_of(begun(link, order, bundle) for link in links)
        shares = [Share(index, len(links)) for index in range(len(links))]
        await all_of(self._drive(link, share) for link, share in zip(links, shares, strict=True))
        if len(self.said) < self.steps * len(self.holdings):
            raise RunFailed("some devices were left without a classification")
        ended = await all_of(link.end() for link in links)
        return [
            Account(link.pid, each, done)
            for link, each, done in zip(links, ready, ended, strict=True)
        ]

    async def _drive(self, link: DeviceLink, share: Share) -> None:
        users = np.array([holding.user for holding in self.holdings], np.int64)
        own = [self.holdings[place] for place in share.of(users).tolist()]
        for step in range(self.steps):
            arrivals = await asyncio.to_thread(self._arrivals, own, step)
            link.play(Round(number=step + 1, arrivals=arrivals))
            async for report in link.classified(step + 1):
                if not isinstance(report, RoundDone):
                    self._enter(step, report)

    def _arrivals(self, holdings: Sequence[Holding], step: int) -> list[Arrival]:
        return [self._arrival(holding, step) for holding in holdings]

    def _arrival(self, holding: Holding, step: int) -> Arrival:
        """What a device meets at ``step``: nodes, and their edges to what it knows."""
        known, count = holding.ends[step - 1] if step else 0, holding.ends[step]
        part = self.graph.graph.part(holding.nodes_M[:count])
        edges = part.edges_2E
        new = edges[:, (edges[0] < edges[1]) & (edges[1] >= known)]
        features = part.features_NF[known:].astype("<f4").tobytes()
        return Arrival(
            index=holding.user,
            user=holding.user,
            features=zstandard.compress(features, _LEVEL),
            pairs=new.astype("<i4").tobytes(),
            degrees=part.degrees_N.astype("<f4").tobytes(),
            asked=holding.asked(step),
        )

    def _enter(self, step: int, report: Classified) -> None:
        """Take in a report.

        Raises:
            RunFailed: it makes no sense.
        """
        scores = np.frombuffer(report.scores, "<f4").reshape(-1, self.graph.spec.classes)
        if len(report.seconds) != len(report.arrivals) or not np.isfinite(scores).all():
            raise RunFailed("a device reported classifications that make no sense")
        start = 0
        for user, seconds in zip(report.arrivals, report.seconds, strict=True):
            if user >= len(self.holdings) or (step, user) in self.said:
                raise RunFailed(f"a device reported step {step} of user {user}, who is not there")
            stop = start + len(self.holdings[user].asked(step))
            self.said[step, user], self.seconds[step, user] = scores[start:stop], seconds
            start = stop
        if start != len(scores):
            raise RunFailed(f"a device reported {len(scores)} nodes, but was asked about {start}")

    def asked(self, user: int, step: int) -> Int64Array:
        """Numbers in the whole graph of what a device was asked about."""
        holding = self.holdings[user]
        return holding.nodes_M[holding.asked(step)]
