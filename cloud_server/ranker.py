"""Scores by the cloud's own model: rank asks go in, logits come out, many at a time."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from torch import nn

from cloud_server.batcher import Batcher, Stay, padded_rows
from cloud_server.settings import ServeSettings
from protos.v1 import collaboration_pb2
from shared_models.contract.features import FeatureSpec, encode_windows
from shared_models.contract.tensors import Codec, Float32Array, tensor_to_proto
from shared_models.method import RanksInCloud


class CloudRanker:
    """Ranks for the devices of one bundle.

    Args:
        method: what can rank.
        model: its trained module.
        features: how windows and candidates are encoded.
        settings: how many asks share a pass or wait.
    """

    def __init__(
        self,
        method: RanksInCloud,
        model: nn.Module,
        features: FeatureSpec,
        settings: ServeSettings,
    ) -> None:
        self._method, self._model, self._features = method, model, features
        self._batcher = Batcher(
            self._rank, largest=settings.largest_batch, room=settings.room, name="rank"
        )

    async def scores_for(
        self,
        rank: collaboration_pb2.Rank,
        *,
        waits: bool,
        expires: float | None,
        stay: Stay | None = None,
    ) -> collaboration_pb2.Scores:
        """One logit for each candidate of ``rank``, encoded.

        Raises:
            Overloaded: too many wait, and ``waits`` is false.
            CloudUnavailable: it expired.
        """
        return await self._batcher.submit(rank, waits=waits, expires=expires, stay=stay)

    async def close(self) -> None:
        """Answer what waits."""
        await self._batcher.close()

    def _rank(self, asks: Sequence[collaboration_pb2.Rank]) -> list[collaboration_pb2.Scores]:
        # One pass for each number of candidates: shorter lists padded to the longest would have
        # their last bits depend on who asked beside them.
        by_size: defaultdict[int, list[int]] = defaultdict(list)
        for index, ask in enumerate(asks):
            by_size[len(ask.candidates)].append(index)
        scores: dict[int, Float32Array] = {}
        for indices in by_size.values():
            logits = self._logits([asks[index] for index in indices])
            scores.update(zip(indices, logits, strict=False))
        return [_to_proto(scores[index]) for index in range(len(asks))]

    def _logits(self, asks: Sequence[collaboration_pb2.Rank]) -> Float32Array:
        """Logits, a row for each ask and then those of padding; all asks have C candidates."""
        windows = encode_windows([ask.items for ask in asks], self._features.window)
        candidates = np.array([ask.candidates for ask in asks], dtype=np.int64)
        known = self._features.known
        return self._method.rank(
            self._model, padded_rows(known(windows)), padded_rows(known(candidates))
        )


def _to_proto(logits: Float32Array) -> collaboration_pb2.Scores:
    return collaboration_pb2.Scores(values=tensor_to_proto("scores", logits, Codec.F32))
