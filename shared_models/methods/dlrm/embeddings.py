"""Categorical features as vectors of one width: plain tables, and two ways to make them smaller.

Quotient-remainder tables are of Shi et al. (arXiv:1909.02107), mixed dimensions of Ginart et al.
(arXiv:1909.11810); both as in the public code of DLRM.
"""

# Shapes: T features, B rows of the batch, D width, W width of a narrower table, R rows of a table.

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.layers.rules import RULES, Rule
from shared_models.layers.tables import Bags, Tables
from shared_models.methods.dlrm.config import Architecture


@dataclass(frozen=True, slots=True)
class Storage:
    """How one feature is stored.

    Attributes:
        values: distinct values; ids run from 0.
        width: of its rows.
        collisions: values that share a row of quotients; 0: it is one plain table.
    """

    values: int
    width: int
    collisions: int = 0

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows of its tables, by name."""
        if not self.collisions:
            return {"rows": self.values}
        return {
            "quotients": -(-self.values // self.collisions),
            "remainders": self.collisions,
        }

    @property
    def ids(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """What becomes of an id in each of its tables."""
        if not self.collisions:
            return (_same,)
        count = self.collisions
        return (lambda ids: ids // count, lambda ids: ids % count)


def storages(config: Architecture, values: Sequence[int]) -> list[Storage]:
    """How features with so many values are stored; each depends on all, so none may be missing."""
    large = [count > config.threshold for count in values]
    if config.remainder != "off":
        width = config.width // 2 if config.remainder == "concat" else config.width
        return [
            Storage(count, width, config.collisions) if is_large else Storage(count, config.width)
            for count, is_large in zip(values, large, strict=True)
        ]
    if not config.mixed_dimension:
        return [Storage(count, config.width) for count in values]
    widths = mixed_widths(values, config.width, config.temperature, rounded=config.round_dims)
    return [
        Storage(count, width if is_large else config.width)
        for count, width, is_large in zip(values, widths, large, strict=True)
    ]


def mixed_widths(
    values: Sequence[int], width: int, temperature: float, *, rounded: bool
) -> list[int]:
    """A width for each feature: the smallest has ``width``, others fall by a power law."""
    widths = (width * (count / min(values)) ** -temperature for count in values)
    whole = [max(1, round(each)) for each in widths]
    return [2 ** round(log2(each)) for each in whole] if rounded else whole


class _Place(NamedTuple):
    """Where a table is: of which feature, in which group of one width, as which one of it."""

    feature: int
    name: str
    group: str
    table: int


class Embeddings(nn.Module):
    """Sums of the vectors in bags, one for each feature.

    Args:
        config: how features are stored.
        values: of each feature there is.
        seed: of the rows at the start.
        own: the features that are kept here, all by default: a part is stored and begins as that
            part of the whole does.
    """

    def __init__(
        self, config: Architecture, values: Sequence[int], seed: int, own: range | None = None
    ) -> None:
        super().__init__()
        part = range(len(values)) if own is None else own
        self.config, self.first = config, part.start
        self.storages = storages(config, values)[part.start : part.stop]
        self.rules: Mapping[str, Rule] = {}
        rows: dict[str, list[int]] = {}
        self._places: list[_Place] = []
        for feature, storage in enumerate(self.storages):
            for name, count in storage.rows.items():
                group = rows.setdefault(str(storage.width), [])
                self._places.append(_Place(feature, name, str(storage.width), len(group)))
                group.append(count)
        self.groups = nn.ModuleDict(
            {width: Tables(counts, int(width)) for width, counts in rows.items()}
        )
        narrow = {str(n): s.width for n, s in enumerate(self.storages) if self._is_projected(s)}
        self.projections = nn.ParameterDict(
            {n: torch.empty(config.width, width) for n, width in narrow.items()}
        )
        self._begin(seed)

    @override
    def forward(self, bags: Bags) -> Tensor:
        """Vectors (B, T, D); where `move_by` was called, the backward pass moves the rows."""
        sums = {width: self._summed(width, bags) for width in self.groups}
        if len(sums) == 1 and len(self._places) == len(self.storages) and not self.projections:
            (vectors_BTD,) = sums.values()
            return vectors_BTD
        found: list[list[Tensor]] = [[] for _ in self.storages]
        for place in self._places:
            found[place.feature].append(sums[place.group][:, place.table])
        return torch.stack([self.vector(n, parts) for n, parts in enumerate(found)], dim=1)

    def vector(self, feature: int, parts: Sequence[Tensor]) -> Tensor:
        """A feature's vector (..., D) of the rows of its tables."""
        if len(parts) == 1:
            projection_DW = self.projections.get(str(feature))
            return parts[0] if projection_DW is None else parts[0] @ projection_DW.T
        quotient, remainder = parts
        if self.config.remainder == "concat":
            return torch.cat([quotient, remainder], dim=-1)
        return quotient * remainder if self.config.remainder == "mult" else quotient + remainder

    def move_by(self, rate: float) -> None:
        """From now on a backward pass moves what was looked up, by the config's optimiser."""
        make = RULES[self.config.optimizer]
        self.rules = {
            width: make(len(tables.weight), int(width), rate, tables.weight.device)
            for width, tables in self._tables()
        }

    def tables(self) -> Iterator[tuple[int, str, Tensor]]:
        """Every table: the number of its feature, its name and its rows (R, W), a view."""
        for feature, name, group, table in self._places:
            tables = self._group(group)
            yield feature, name, tables.of_table(tables.weight.detach(), table)

    @property
    def state(self) -> dict[str, Tensor]:
        """All of it by feature, as in ``tables.3.rows``, whatever is stored together; views."""
        state = {f"tables.{self.first + n}.{name}": rows for n, name, rows in self.tables()}
        return state | {name: each.detach() for name, each in self.dense_parameters.items()}

    @property
    def moments(self) -> dict[str, Tensor]:
        """What the optimiser knows of rows, by names as in `state`; views."""
        return {
            f"tables.{self.first + feature}.{name}": self._group(group).of_table(
                self.rules[group].moments_R, table
            )
            for feature, name, group, table in self._places
            if self.rules
        }

    @property
    def dense_parameters(self) -> dict[str, nn.Parameter]:
        """Projections, by names as in `state`."""
        return {
            f"tables.{self.first + int(feature)}.projection": projection_DW
            for feature, projection_DW in self.projections.items()
        }

    def _summed(self, width: str, bags: Bags) -> Tensor:
        tables, own = self._group(width), bags
        if len(self._places) != len(self.storages) or len(self.groups) > 1:
            places = [place for place in self._places if place.group == width]
            own = bags.chosen([(p.feature, self._ids(p)) for p in places])
        if self.rules and torch.is_grad_enabled():
            return tables.trained(own, self.rules[width])
        sums_BTW: Tensor = tables(own)
        return sums_BTW

    def _ids(self, place: _Place) -> Callable[[Tensor], Tensor]:
        storage = self.storages[place.feature]
        return storage.ids[list(storage.rows).index(place.name)]

    def _is_projected(self, storage: Storage) -> bool:
        return not storage.collisions and storage.width != self.config.width

    def _group(self, width: str) -> Tables:
        tables = self.groups[width]
        assert isinstance(tables, Tables)  # noqa: S101 - as made above
        return tables

    def _tables(self) -> Iterator[tuple[str, Tables]]:
        return ((width, self._group(width)) for width in self.groups)

    @torch.no_grad()
    def _begin(self, seed: int) -> None:
        """Rows uniform in +-sqrt(1 / values), by a chance of each feature's own.

        Remainders that multiply begin at 1, so that products begin as plain rows do.
        """
        for feature, name, rows in self.tables():
            if name == "remainders" and self.config.remainder == "mult":
                rows.fill_(1)
                continue
            chance = _chance(seed, self.first + feature, name)
            rows.uniform_(-1, 1, generator=chance).mul_(self.storages[feature].values ** -0.5)
        for number, projection_DW in self.projections.items():
            chance = _chance(seed, self.first + int(number), "projection")
            nn.init.xavier_uniform_(projection_DW, generator=chance)


def _chance(seed: int, feature: int, name: str) -> torch.Generator:
    drawn = np.random.default_rng([seed, feature, *name.encode()]).integers(2**62)
    return torch.Generator().manual_seed(int(drawn))


def _same(ids: Tensor) -> Tensor:
    return ids
