"""A training on rows, on disk: one file, whatever the number of processes that wrote or read it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn
from torch.optim import Optimizer

from cloud_server.checkpoints import read_tensors, write_tensors
from cloud_server.rows.team import Team
from shared_models.rows import RowTables, parameters_of

CHECKPOINT: Final = "rows.safetensors"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a process trains.

    Attributes:
        tables: the own ones.
        network: the same in every process.
        optimiser: of all but the rows of tables; None where nothing is trained.
    """

    tables: RowTables
    network: nn.Module
    optimiser: Optimizer | None = None

    @property
    def weights(self) -> dict[str, Tensor]:
        """By name, as views that may be written to."""
        network = {f"network.{name}": t for name, t in self.network.state_dict().items()}
        return {**self.tables.state, **network}

    @property
    def moments(self) -> dict[str, Tensor]:
        """What the optimisers know, likewise."""
        if self.optimiser is None:
            return {}
        known = {
            name: self.optimiser.state[parameter]["sum"]
            for name, parameter in parameters_of(self.network, self.tables)
            if "sum" in self.optimiser.state[parameter]
        }
        return {**self.tables.moments, **known}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Both, as in ``weights/tables.3.rows`` and ``moments/tables.3.rows``."""
        parts = {"weights": self.weights, "moments": self.moments}
        return {f"{part}/{n}": t for part, named in parts.items() for n, t in named.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take in what is there of `tensors`."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])


def save(folder: Path, parts: Parts, about: Mapping[str, Any], team: Team) -> None:
    """Write ``folder/rows.safetensors``, all or nothing; every process of the team must call it."""
    if team.rank:
        own = {name: t for name, t in parts.tensors.items() if "/network." not in name}
        write_tensors(_shard(folder, team.rank), own, {})
    team.wait()
    if team.rank == 0:
        tensors = dict(parts.tensors)
        shards = [_shard(folder, rank) for rank in range(1, team.size)]
        for shard in shards:
            tensors |= read_tensors(shard)[0]
        write_tensors(folder / CHECKPOINT, tensors, about)
        for shard in shards:
            shard.unlink()
    team.wait()


def load(folder: Path, parts: Parts, accepts: Callable[[Mapping[str, Any]], bool]) -> int:
    """Load what a process needs; the steps that were done, 0 where there is nothing to go on from.

    Args:
        folder: where `save` wrote.
        parts: what to load into.
        accepts: whether a checkpoint is of the same training.
    """
    path = folder / CHECKPOINT
    if not path.is_file() or not accepts(read_tensors(path, lambda _: False)[1]):
        return 0
    tensors, about = read_tensors(path, parts.tensors.__contains__)
    parts.load(tensors)
    return int(about["step"])


def _shard(folder: Path, rank: int) -> Path:
    return folder / f"rows-{rank}.safetensors"
