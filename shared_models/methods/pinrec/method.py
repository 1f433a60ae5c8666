"""pinrec: a trunk for everybody, and small plugins for groups of users or single devices."""

# Shapes: B rows, C candidates.

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.layers.sequence import cut_windows
from shared_models.method import (
    Batch,
    Facts,
    LearnerExport,
    ScorerExport,
    Stage,
)
from shared_models.methods.pinrec.config import Config
from shared_models.methods.pinrec.network import BeforePlugin, PinrecNetwork, PluggedScorer


class Pinrec:
    """The trunk learns what all share, plugins what a group or a user has apart."""

    name = "pinrec"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, seed: int, facts: Facts | None = None) -> nn.Module:
        """A fresh `PinrecNetwork`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return PinrecNetwork(self.config, facts)

    def stages(self) -> Sequence[Stage]:
        """The trunk alone; then the plugins, or nothing, while the trunk goes on slowly."""
        first = Stage("trunk", _trunk, self._trunk_loss, self._trunk_scores)
        config = self.config
        if config.plugins != "cloud" and not config.trunk_goes_on:
            return [first]
        second = Stage(
            "plugins" if config.plugins == "cloud" else "trunk goes on",
            self._second,
            self._loss,
            self._scores,
            epochs=config.second_epochs,
            slow=_trunk,
        )
        return [first, second]

    def score(self, model: nn.Module, batch: Batch, age: int = 0) -> Tensor:  # noqa: ARG002 - groups do not age
        """Logits (B, C)."""
        return self._logits(model, batch, batch.groups_B)

    def export(self, model: nn.Module) -> ScorerExport:
        """The ranker; the weights of a plugin are slots."""
        network = _network(model)
        numbers = range(1, self.config.groups + 1) if self.config.grouped else ()
        groups = [network.plugin(number).slots for number in numbers]
        return ScorerExport(PluggedScorer(network), network.nothing.slots, groups=groups)

    def learner(self, model: nn.Module) -> LearnerExport | None:
        """The trunk until the plugin, and all that comes after, where devices train."""
        if self.config.plugins not in ("device", "federated"):
            return None
        scorer = PluggedScorer(_network(model))
        return LearnerExport(BeforePlugin(scorer.ranker.trunk), scorer.tail, self.config.lessons)

    def _trunk_loss(self, model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
        return self._aggregated(self._logits(model, batch, None), batch)

    def _loss(self, model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
        return self._aggregated(self.score(model, batch), batch)

    def _trunk_scores(self, model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
        return self._logits(model, batch, None)

    def _scores(self, model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
        return self.score(model, batch)

    def _logits(self, model: nn.Module, batch: Batch, groups_B: Tensor | None) -> Tensor:
        windows_BT = cut_windows(batch.history_BH, self.config.features.window)
        logits_BC: Tensor = model(windows_BT, batch.candidates_BC, groups_B)
        return logits_BC

    def _aggregated(self, logits_BC: Tensor, batch: Batch) -> Tensor:
        losses_BC = functional.binary_cross_entropy_with_logits(
            logits_BC, batch.labels_BC, reduction="none"
        )
        if self.config.aggregation == "rows" or batch.groups_B is None:
            return losses_BC.mean()
        return mean_of_groups(losses_BC.mean(1), batch.groups_B)

    def _second(self, model: nn.Module) -> Iterable[nn.Parameter]:
        network = _network(model)
        trunk = _trunk(network) if self.config.trunk_goes_on else ()
        return [*network.plugins.parameters(), *trunk]


def mean_of_groups(losses_B: Tensor, groups_B: Tensor) -> Tensor:
    """The mean over the groups that are present of each group's mean loss.

    Its gradient is the mean of the groups' gradients: how many rows a group has is of no account.
    """
    rows_G = groups_B.bincount()
    mean: Tensor = (losses_B / rows_G[groups_B]).sum() / (rows_G > 0).sum()
    return mean


def _trunk(model: nn.Module) -> Iterable[nn.Parameter]:
    return _network(model).ranker.parameters()


def _network(model: nn.Module) -> PinrecNetwork:
    assert isinstance(model, PinrecNetwork)  # noqa: S101 - built by this method's own `build`
    return model


METHOD = Pinrec
