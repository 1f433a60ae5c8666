"""Matrix factorisation by BPR (Rendle et al., arXiv:1205.2618), beside popularity.

No device runs it: it is the plainest model whose figures others have published, so it checks the
log, the sampler of negatives, masking and the metrics from outside.
"""

# Shapes: E events of the log, U users, V items, B pairs, D width.

import copy
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from cloud_server.dataset import Negatives
from shared_models.contract.tensors import Float32Array
from shared_models.contract.top_k import top_k_metrics
from shared_models.logs.prepared import PreparedLog

PROTOCOL: Final = "random 8:1:1 of each user's items, full catalogue, items of earlier parts masked"
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BprSettings:
    """How to train; the defaults are those of RecBole's published run, but for the patience.

    With RecBole's patience of 10 some seeds stop long before they are done.
    """

    width: int = 64
    learning_rate: float = 1e-3
    rows: int = 2048
    epochs: int = 300
    patience: int = 25


class Factors(nn.Module):
    """A vector for each user and each item; a score is their product."""

    def __init__(self, users: int, items: int, width: int) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(users, width), nn.Embedding(items + 1, width)
        nn.init.xavier_normal_(self.users.weight)
        nn.init.xavier_normal_(self.items.weight)

    @override
    def forward(self, user_B: Tensor, item_B: Tensor) -> Tensor:
        """Scores (B,)."""
        scores_B: Tensor = (self.users(user_B) * self.items(item_B)).sum(-1)
        return scores_B

    def table(self) -> Float32Array:
        """Scores (U, V + 1) of everything for everybody; column 0 stands for no item."""
        with torch.inference_mode():
            scores_UV: Float32Array = (self.users.weight @ self.items.weight.T).numpy()
        return scores_UV


class Parts:
    """The items of every user, cut at random, as tables of what belongs to which part.

    Attributes:
        train: the training events.
        known_UV: what training holds, and the item 0.
        validation_UV: what validation holds.
        test_UV: what the test holds.
    """

    def __init__(self, log: PreparedLog, rng: np.random.Generator) -> None:
        events = log.events
        part_E = random_parts(events["user"].to_numpy(), rng)
        self.train = events.filter(pl.Series(part_E == 0))
        self.known_UV, self.validation_UV, self.test_UV = (
            _table(events.filter(pl.Series(part_E == part)), log) for part in range(3)
        )
        self.known_UV[:, 0] = True

    def validate(self, scores_UV: Float32Array) -> dict[str, float]:
        """Metrics on validation; what training holds is masked."""
        return top_k_metrics(scores_UV, self.validation_UV, self.known_UV)

    def test(self, scores_UV: Float32Array) -> dict[str, float]:
        """Metrics on the test; what training and validation hold is masked."""
        return top_k_metrics(scores_UV, self.test_UV, self.known_UV | self.validation_UV)


def random_parts(user_E: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """0, 1 or 2 for each event: of n events of a user, n // 10 test and as many validate.

    Args:
        user_E: sorted.
        rng: decides which.
    """
    shuffled = np.lexsort((rng.random(len(user_E)), user_E))
    starts, counts = np.unique(user_E, return_index=True, return_counts=True)[1:]
    place_E = np.arange(len(user_E)) - np.repeat(starts, counts)
    tenth_E = np.repeat(counts // 10, counts)
    left_E = np.repeat(counts, counts) - place_E
    part_E = np.zeros(len(user_E), np.int64)
    part_E[shuffled] = np.where(left_E <= tenth_E, 2, np.where(left_E <= 2 * tenth_E, 1, 0))
    return part_E


def run_bpr(log: PreparedLog, settings: BprSettings, seed: int) -> dict[str, Any]:
    """Cut, train and test, with popularity beside it.

    Args:
        log: all of its events are cut anew; its own split is not used.
        settings: how to train.
        seed: of the cut, the weights, the order and the negatives.
    """
    rng = np.random.default_rng(seed)
    parts = Parts(log, rng)
    model, epochs = _fit(parts, Negatives(parts.train, log.items), settings, (seed, rng))
    popularity_V = np.bincount(parts.train["item"].to_numpy(), minlength=log.items + 1)
    popularity_UV = np.broadcast_to(popularity_V.astype(np.float32), parts.known_UV.shape)
    return {
        "protocol": f"{log.manifest.name}, {PROTOCOL}",
        "seed": seed,
        "epochs": epochs,
        "bpr": parts.test(model.table()),
        "popularity": parts.test(popularity_UV),
    }


def _fit(
    parts: Parts,
    negatives: Negatives,
    settings: BprSettings,
    chance: tuple[int, np.random.Generator],
) -> tuple[Factors, int]:
    """The model of the epoch with the best validation MRR, and how many epochs there were."""
    seed, rng = chance
    users, columns = parts.known_UV.shape
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Factors(users, columns - 1, settings.width)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    best, best_mrr, best_epoch, epoch = copy.deepcopy(model), -1.0, 0, 0
    while epoch < settings.epochs and epoch - best_epoch < settings.patience:
        epoch += 1
        _epoch(model, optimiser, parts.train, negatives, (settings.rows, rng))
        mrr = parts.validate(model.table())["mrr@10"]
        if mrr > best_mrr:
            best, best_mrr, best_epoch = copy.deepcopy(model), mrr, epoch
    return best, epoch


def _epoch(
    model: Factors,
    optimiser: torch.optim.Optimizer,
    train: pl.DataFrame,
    negatives: Negatives,
    batches: tuple[int, np.random.Generator],
) -> None:
    rows, rng = batches
    user_E, item_E = (train[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    order_E = rng.permutation(len(user_E))
    for start in range(0, len(order_E), rows):
        chosen_B = order_E[start : start + rows]
        other_B = negatives.draw(user_E[chosen_B], 1, rng)[:, 0]
        user, taken, other = (
            torch.from_numpy(array) for array in (user_E[chosen_B], item_E[chosen_B], other_B)
        )
        loss = -functional.logsigmoid(model(user, taken) - model(user, other)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _table(events: pl.DataFrame, log: PreparedLog) -> BoolArray:
    table_UV = np.zeros((log.users, log.items + 1), bool)
    table_UV[events["user"].to_numpy(), events["item"].to_numpy()] = True
    return table_UV
