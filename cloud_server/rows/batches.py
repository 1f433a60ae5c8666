"""The order of rows in a training: known beforehand, so that one goes on where it stopped."""

# Shapes: R rows of a file, B rows of a batch, S of them the own, N dense features, L ids of a bag.

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cloud_server.rows.settings import RowsTraining
from cloud_server.rows.team import Team
from shared_models.contract.tensors import Int64Array
from shared_models.layers.tables import Bags
from shared_models.logs.rows.prepared import PreparedRows, Rows


@dataclass(frozen=True, slots=True)
class RowBatch:
    """What one process reads of a batch.

    Attributes:
        rows: B, of the whole batch.
        dense_SN: float32, of the own slice.
        labels_S: float32, of the own slice.
        bags: of the own categories and the whole batch.
    """

    rows: int
    dense_SN: Tensor
    labels_S: Tensor
    bags: Bags


class Batches:
    """The batches of a training, for one process of ``team``."""

    def __init__(self, rows: PreparedRows, training: RowsTraining, seed: int, team: Team) -> None:
        self._rows, self._training, self._seed, self._team = rows, training, seed, team
        self._categories = team.own(len(rows.values))

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch; none has rows of two files."""
        return sum(-(-rows // self._training.rows) for rows in self._rows.manifest.rows["train"])

    def after(self, step: int) -> Iterator[RowBatch]:
        """All that follow the first ``step`` ones."""
        for epoch in range(step // self.per_epoch, self._training.epochs):
            skipped = max(0, step - epoch * self.per_epoch)
            yield from self._epoch(epoch, skipped)

    def _epoch(self, epoch: int, skipped: int) -> Iterator[RowBatch]:
        files, size = self._rows.manifest.rows["train"], self._training.rows
        for number in self._order(len(files), [epoch]):
            batches = -(-files[number] // size)
            if skipped >= batches:
                skipped -= batches
                continue
            rows = self._rows.read("train", int(number), self._categories)
            order_R = self._order(len(rows), [epoch, int(number)])
            for start in range(skipped * size, len(rows), size):
                yield self._batch(rows, order_R[start : start + size])
            skipped = 0

    def _order(self, count: int, place: list[int]) -> Int64Array:
        if not self._training.shuffle:
            return np.arange(count)
        return np.random.default_rng([self._seed, *place]).permutation(count)

    def _batch(self, rows: Rows, row_B: Int64Array) -> RowBatch:
        own = self._team.own(len(row_B))
        row_S = row_B[own.start : own.stop]
        return RowBatch(
            len(row_B),
            torch.from_numpy(rows.dense_RN[row_S]),
            torch.from_numpy(rows.label_R[row_S]),
            bags_of(rows, row_B),
        )


def bags_of(rows: Rows, row_B: Int64Array) -> Bags:
    """The bags of some rows."""
    ids, sizes = zip(*(bag.of(row_B) for bag in rows.bags), strict=True)
    sizes_TB = None if rows.single else torch.from_numpy(np.stack(sizes))
    return Bags(torch.from_numpy(np.concatenate(ids)), sizes_TB, len(ids))


def padded(rows: Rows, row_B: Int64Array) -> Tensor:
    """The bags of some rows with ids from 1, padded with 0: int64 (B, T, L)."""
    found = [bag.of(row_B) for bag in rows.bags]
    longest = max(int(sizes_B.max(initial=1)) for _, sizes_B in found)
    ids_BTL = np.zeros((len(row_B), len(found), longest), np.int64)
    column_1L = np.arange(longest)[None]
    for category, (ids, sizes_B) in enumerate(found):
        ids_BTL[:, category][column_1L < sizes_B[:, None]] = 1 + ids
    return torch.from_numpy(ids_BTL)
