"""What is known from outside, as data: figures on MovieLens-100K, and how far off ours may be.

A band has two sides: a figure that is too good is as wrong as one that is too low. A hit rate of
.19 means that somebody masked the history, one above .3 that the test leaked into the training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

LOG: Final = "movielens-100k"
_SEQUENTIAL: Final = "RecBole, docs/source/get_started/started/sequential.rst (GRU4Rec)"
_GENERAL: Final = "RecBole, get_started/started/general.rst and distributed_training.rst (BPR)"
_INDEPENDENT: Final = "independent code, same file, split and ranking; not published"
_OURS: Final = "the same weights"


@dataclass(frozen=True, slots=True)
class Band:
    """A figure, and the band in which the mean over seeds must lie.

    Attributes:
        figure: its name, as it is measured.
        known: the figure from outside, as its source prints it.
        low: smallest mean that holds.
        high: largest mean that holds; None where the band of another figure bounds it.
        source: where `known` stands.
    """

    figure: str
    known: str
    low: float
    high: float | None
    source: str

    def holds(self, mean: float) -> bool:
        """Whether ``mean`` lies in the band, its ends included."""
        return self.low <= mean and (self.high is None or mean <= self.high)


@dataclass(frozen=True, slots=True)
class Check:
    """One model on one protocol.

    Attributes:
        seeds: of the model; none where nothing is left to chance.
        bands: what is measured.
        trunk: settings of the backbone of a model that devices run.
    """

    seeds: tuple[int, ...]
    bands: tuple[Band, ...]
    trunk: Mapping[str, Any] | None = None


RECIPE: Final[Mapping[str, Any]] = {
    "methods": ["base"],
    "log": LOG,
    "split": "leave-one-out",
    "devices": 2,
    "replay": {"candidates": "full"},
    "train": {"rows": 32, "epochs": 25},
    "settings": {"base": {"objective": "softmax", "window": 50}},
}
"""The published recipe (width 64, dropout .3, 50 events, cross entropy over all items), trained on
non-overlapping runs: 32 of them are as many targets as RecBole's batch of prefixes."""


def _by_devices_and_torch(known: tuple[str, str, str], source: str) -> tuple[Band, ...]:
    hit_rate, ndcg, ratio = known
    return (
        Band("HR@10", hit_rate, 0.090, 0.150, source),
        Band("NDCG@10", ndcg, 0.043, 0.075, source),
        Band("HR@10 / popularity", ratio, 1.8, None, source),
        Band("HR@10, torch alone", hit_rate, 0.090, 0.150, source),
        Band("NDCG@10, torch alone", ndcg, 0.043, 0.075, source),
        Band("ranks that torch moves", "0", 0, 0, _OURS),
    )


CHECKS: Final[Mapping[str, Check]] = {
    "popularity": Check((), (Band("HR@10", ".0498", 0.0478, 0.0518, _INDEPENDENT),)),
    "gru4rec": Check(
        (0, 1),
        _by_devices_and_torch((".1103", ".0513", "2.2"), _SEQUENTIAL),
        {"name": "gru4rec", "width": 64, "dropout": 0.3},
    ),
    "sasrec": Check(
        (0, 1),
        _by_devices_and_torch((".1156, .1251", ".0536, .0572", "2.3, 2.5"), _INDEPENDENT),
        {
            "name": "sasrec",
            "width": 64,
            "dropout": 0.3,
            "blocks": 2,
            "heads": 2,
            "positions": "order",
        },
    ),
    "bpr": Check(
        (0, 1, 2, 3, 4),
        (
            Band("NDCG@10", ".2920, .2863", 0.274, 0.304, _GENERAL),
            Band("Hit@10", ".7953, .7701", 0.753, 0.813, _GENERAL),
            Band("NDCG@10 of popularity", ".1440", 0.134, 0.154, _INDEPENDENT),
            Band("NDCG@10 / popularity", "2.0", 1.8, None, _GENERAL),
        ),
    ),
}
