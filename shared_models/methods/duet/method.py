"""DUET: the cloud writes each device's head from its recent behaviour (arXiv:2209.05227)."""

from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.layers.sequence import cut_windows
from shared_models.method import (
    Batch,
    ControllerExport,
    Facts,
    Personalization,
    ScorerExport,
    Stage,
    Uplinks,
)
from shared_models.methods.duet.config import Config
from shared_models.methods.duet.delivery import exported, written
from shared_models.methods.duet.gate import Controller, seen
from shared_models.methods.duet.network import DuetNetwork

_GATE_EPOCHS: Final = 4


class Duet:
    """Trunk and generator, trained together, with overlays of every age that devices will see."""

    name = "duet"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, seed: int, facts: Facts | None = None) -> nn.Module:
        """A fresh `DuetNetwork`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return DuetNetwork(self.config, facts)

    def stages(self) -> Sequence[Stage]:
        """Trunk, head and generator move together; then the gate learns what a refresh changes."""
        joint = Stage("joint", _trainable, self._loss, self._served_scores)
        if not self.config.gate:
            return [joint]
        gate = Stage("gate", _gate_parameters, self._gate_loss, self._gated_scores, _GATE_EPOCHS)
        return [joint, gate]

    def score(self, model: nn.Module, batch: Batch, age: int = 0) -> Tensor:
        """Logits (B, C) with every overlay ``age`` events old."""
        return self._logits(_network(model), batch, age)

    def personalize(self, model: nn.Module, uplinks: Uplinks) -> Personalization:
        """What is delivered for each uplink: a head, its code, or more."""
        network = _network(model)
        device = next(network.parameters()).device
        with torch.inference_mode():
            code_BZ = network.code(torch.from_numpy(uplinks.items_BN).to(device))
            slots = written(network, self.config, code_BZ)
        return Personalization({name: value.cpu().numpy() for name, value in slots.items()})

    def export(self, model: nn.Module) -> ScorerExport:
        """As the delivery says; by default the ranker alone, with its head as slots."""
        return exported(_network(model), self.config)

    def controller(self, model: nn.Module) -> ControllerExport | None:
        """The gate, where one was trained and there is something to ask for."""
        network = _network(model)
        if network.gate is None or self.config.uplink is None:
            return None
        return ControllerExport(Controller(network.ranker.trunk, network.gate))

    def _loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        network = _network(model)
        code_BZ = self._code(network, batch, self._draw_ages(batch, rng))
        # Rows without a code keep the default head good: devices fall back to it.
        kept_B1 = torch.rand(len(code_BZ), 1, generator=rng) >= self.config.code_dropout
        logits_BC = self._ranked(network, batch, code_BZ * kept_B1.to(code_BZ.device))
        return functional.binary_cross_entropy_with_logits(logits_BC, batch.labels_BC)

    def _served_scores(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        return self._logits(_network(model), batch, self._draw_ages(batch, rng))

    def _gate_loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Squared error of the expected gain against what a refresh changed in the row's loss."""
        # Without dropout, as it is served: what a refresh changes is small beside that noise.
        network = _network(model).eval()
        age_B = self._draw_gate_ages(batch, rng)
        with torch.no_grad():
            stale_B, fresh_B = (
                _row_losses(self._logits(network, batch, age), batch) for age in (age_B, 0)
            )
        return functional.mse_loss(self._gain(network, batch, age_B), stale_B - fresh_B)

    def _gated_scores(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Fresh scores for the half of the rows where the gate expects most, else stale ones."""
        network = _network(model)
        age_B = self._draw_gate_ages(batch, rng)
        gain_B = self._gain(network, batch, age_B)
        stale_BC, fresh_BC = (self._logits(network, batch, age) for age in (age_B, 0))
        return torch.where((gain_B > gain_B.median())[:, None], fresh_BC, stale_BC)

    def _gain(self, network: DuetNetwork, batch: Batch, age_B: Tensor) -> Tensor:
        assert network.gate is not None  # noqa: S101 - only the gate's own stage comes here
        trunk, length = network.ranker.trunk, self.config.generator_window
        with torch.no_grad():
            now_BD, then_BD = (
                seen(trunk, cut_windows(batch.history_BH, length, age)) for age in (0, age_B)
            )
        gain_B: Tensor = network.gate(now_BD, then_BD)
        return gain_B

    def _draw_gate_ages(self, batch: Batch, rng: torch.Generator) -> Tensor:
        rows = len(batch.history_BH)
        ages_B = torch.randint(1, self.config.gate_lag + 1, (rows,), generator=rng)
        return ages_B.to(batch.history_BH.device)

    def _draw_ages(self, batch: Batch, rng: torch.Generator) -> Tensor:
        rows = len(batch.history_BH)
        ages_B = torch.randint(0, self.config.max_lag + 1, (rows,), generator=rng)
        return ages_B.to(batch.history_BH.device)

    def _logits(self, network: DuetNetwork, batch: Batch, age_B: Tensor | int) -> Tensor:
        return self._ranked(network, batch, self._code(network, batch, age_B))

    def _code(self, network: DuetNetwork, batch: Batch, age_B: Tensor | int) -> Tensor:
        return network.code(cut_windows(batch.history_BH, self.config.generator_window, age_B))

    def _ranked(self, network: DuetNetwork, batch: Batch, code_BZ: Tensor) -> Tensor:
        windows_BT = cut_windows(batch.history_BH, self.config.features.window)
        logits_BC: Tensor = network(windows_BT, batch.candidates_BC, code_BZ)
        return logits_BC


def _trainable(model: nn.Module) -> Iterable[nn.Parameter]:
    network = _network(model)
    parts = (network.ranker, network.encoder, network.writer)
    return (each for part in parts for each in part.parameters() if each.requires_grad)


def _gate_parameters(model: nn.Module) -> Iterable[nn.Parameter]:
    gate = _network(model).gate
    return gate.parameters() if gate is not None else ()


def _row_losses(logits_BC: Tensor, batch: Batch) -> Tensor:
    loss_BC = functional.binary_cross_entropy_with_logits(
        logits_BC, batch.labels_BC, reduction="none"
    )
    return loss_BC.mean(1)


def _network(model: nn.Module) -> DuetNetwork:
    assert isinstance(model, DuetNetwork)  # noqa: S101 - built by this method's own `build`
    return model


METHOD = Duet
