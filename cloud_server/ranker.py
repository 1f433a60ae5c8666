"""Scores by the cloud's own model: rank asks go in, logits come out, many at a time."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from torch import nn

from cloud_server.batcher import Batcher, Stay, padded_rows
from cloud_server.settings import ServeSettings
from protos.v1 import collaboration_pb2
from shared_models.contract.features import encode_windows
from shared_models.contract.manifest import Manifest
from shared_models.contract.tensors import Float32Array, Int64Array, tensor_to_proto
from shared_models.method import RanksInCloud

_MOST_SCORES: Final = 100_000
"""Of one pass, but for the fewest asks; bounds the memory that candidates' vectors take."""
_FEWEST_ASKS: Final = 8
"""Of one pass, and what the number of asks in full ones is a multiple of, as `padded_rows` pads."""


class _Asked(NamedTuple):
    """What one device wants ranked, and for whom."""

    rank: collaboration_pb2.Rank
    profile: Sequence[int]


class CloudRanker:
    """Ranks for the devices of one bundle.

    Args:
        method: what can rank.
        model: its trained module.
        manifest: of the bundle: how windows and candidates are encoded, and what goes up.
        settings: how many asks share a pass or wait, and the codec of scores.

    Attributes:
        batcher: of asks.
    """

    def __init__(
        self,
        method: RanksInCloud,
        model: nn.Module,
        manifest: Manifest,
        settings: ServeSettings,
    ) -> None:
        self._method, self._model, self._features = method, model, manifest.features
        self._window = manifest.uplink.items if manifest.ranking and manifest.uplink else 0
        self._codec = settings.codec
        self.batcher = Batcher(
            self._rank, largest=settings.largest_batch, room=settings.room, name="rank"
        )

    async def scores_for(
        self,
        rank: collaboration_pb2.Rank,
        profile: Sequence[int] = (),
        *,
        waits: bool,
        expires: float | None,
        stay: Stay | None = None,
    ) -> collaboration_pb2.Scores:
        """One logit for each candidate of ``rank``, or the items retrieved with theirs, encoded.

        Raises:
            Overloaded: too many wait, and ``waits`` is false.
            CloudUnavailable: it expired.
        """
        return await self.batcher.submit(
            _Asked(rank, profile), waits=waits, expires=expires, stay=stay
        )

    async def close(self) -> None:
        """Answer what waits."""
        await self.batcher.close()

    def _rank(self, asked: Sequence[_Asked]) -> list[collaboration_pb2.Scores]:
        # One pass for each number of candidates: shorter lists padded to the longest would have
        # their last bits depend on who asked beside them.
        by_size: defaultdict[int, list[int]] = defaultdict(list)
        for index, each in enumerate(asked):
            by_size[len(each.rank.candidates)].append(index)
        scores: dict[int, collaboration_pb2.Scores] = {}
        for size, indices in by_size.items():
            fits = _MOST_SCORES // (size or self._features.items)
            rows = max(fits // _FEWEST_ASKS, 1) * _FEWEST_ASKS
            for start in range(0, len(indices), rows):
                some = indices[start : start + rows]
                found = self._scored([asked[index] for index in some])
                scores.update(zip(some, found, strict=True))
        return [scores[index] for index in range(len(asked))]

    def _scored(self, asked: Sequence[_Asked]) -> list[collaboration_pb2.Scores]:
        """Of asks with equally many candidates, or with none."""
        asks = [each.rank for each in asked]
        windows = encode_windows([ask.items for ask in asks], self._window or self._features.window)
        catalogue = range(1, self._features.items + 1)
        candidates = np.array([ask.candidates or catalogue for ask in asks], dtype=np.int64)
        known = self._features.known
        rows = padded_rows(known(windows)), padded_rows(known(candidates))
        logits = self._method.rank(self._model, *rows, self._profiles(asked))
        pairs = zip(asks, logits, strict=False)
        return [self._encoded(scores, ask.retrieve) for ask, scores in pairs]

    def _profiles(self, asked: Sequence[_Asked]) -> Int64Array | None:
        """int64 (B, M), padding rows included; None where the bundle's models read none."""
        if self._features.profile is None:
            return None
        encoded = [self._features.encode_profile(each.profile) for each in asked]
        return padded_rows(np.concatenate(encoded))

    def _encoded(self, logits: Float32Array, retrieve: int) -> collaboration_pb2.Scores:
        """All of the ``logits``, or where some are to be retrieved, the best of the catalogue's."""
        items: Sequence[int] = ()
        if retrieve:
            best = np.argsort(-logits, kind="stable")[:retrieve]
            items, logits = (best + 1).tolist(), logits[best]
        values = tensor_to_proto("", logits, self._codec)
        return collaboration_pb2.Scores(values=values, items=items)
