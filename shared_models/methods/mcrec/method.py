"""MCRec: a session's list, a re-ranking, or a refresh, as a learnt controller says.

Device-Cloud Collaborative Recommendation via Meta Controller (arXiv:2207.03066).
"""

# Shapes: B rows, G events in the uplink, T in the device's window, C candidates, M mechanisms.

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.contract.ranking import MECHANISMS
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.layers.sequence import cut_windows
from shared_models.logs.sessions import LONGEST
from shared_models.method import Batch, ControllerExport, Facts, ScorerExport, Stage
from shared_models.methods.mcrec.config import Config
from shared_models.methods.mcrec.decisions import Decisions, decisions, labels
from shared_models.methods.mcrec.network import (
    DEVICE,
    REFRESH,
    SESSION,
    DeviceController,
    McrecNetwork,
)

_PASSES: Final = 4
_MOMENTS: Final = 24_000
"""In an epoch: of a small log each one several times, of a large one another part each time."""
Loss = Callable[[nn.Module, Batch, torch.Generator], Tensor]


class Mcrec:
    """CRec in the cloud, ORec on the device, and the meta controller between them."""

    name = "mcrec"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, seed: int, facts: Facts | None = None) -> nn.Module:
        """A fresh `McrecNetwork`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return McrecNetwork(self.config, facts)

    def stages(self) -> Sequence[Stage]:
        """The cloud's ranker; the device's on lists of every age; then what chooses."""
        cloud = Stage("cloud", _part("cloud"), self._cloud_loss, self._fresh)
        device = Stage("device", _part("device"), self._device_loss, self._reranked)
        told = Stage("controller", _chooser, self._told_loss, self._told_logits)
        if self.config.part != "all":
            return [{"cloud": cloud, "device": device, "controller": told}[self.config.part]]
        return [
            cloud,
            device,
            self._on_sessions("outcomes", "learner", self._outcome_loss, self._as_expected),
            self._on_sessions("controller", "controller", self._controller_loss, self._as_chosen),
        ]

    def score(self, model: nn.Module, batch: Batch, age: int = 0) -> Tensor:
        """Logits (B, C): a fresh list as the cloud has it, an older one re-ranked by the device.

        Of one part alone, what that network says of the original's table.
        """
        network = _network(model)
        if self.config.part == "controller":
            return self._told_logits(model, batch)
        listed_BC = self._listed(network, batch, age)
        if self.config.part == "device" or age:
            return self._own(network, batch, listed_BC)
        return listed_BC

    def rank(
        self,
        model: nn.Module,
        windows: Int64Array,
        candidates: Int64Array,
        profile: Int64Array | None = None,  # noqa: ARG002 - it reads none
    ) -> Float32Array:
        """Logits (B, C) of the cloud."""
        network = _network(model)
        device = next(network.parameters()).device
        inputs = (torch.from_numpy(array).to(device) for array in (windows, candidates))
        with torch.inference_mode():
            logits: Float32Array = network.cloud(*inputs).cpu().numpy()
        return logits

    def export(self, model: nn.Module) -> ScorerExport:
        """The device's ranker, which reads the cloud's logits as ``prior``."""
        return ScorerExport(_network(model).device)

    def controller(self, model: nn.Module) -> ControllerExport:
        """Beside change and gain: what the device's own order is worth, and all shares."""
        network = _network(model)
        controller = DeviceController(network.controller, network.device_items)
        return ControllerExport(controller, {"rerank": 0, "choice": len(MECHANISMS)})

    def _on_sessions(self, name: str, part: str, loss: Loss, scores: Loss) -> Stage:
        return Stage(
            name,
            _part(part),
            loss,
            scores,
            self.config.decision_epochs,
            rows="sessions",
            ahead=self.config.horizon,
            passes=_PASSES,
            most=_MOMENTS,
        )

    def _cloud_loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        return _bce(self._fresh(model, batch, rng), batch)

    def _device_loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        _network(model).cloud.eval()
        return _bce(self._reranked(model, batch, rng), batch)

    def _outcome_loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Squared error of what is expected of each mechanism against what came of it."""
        network = _network(model)
        found = decisions(network, self.config, batch, rng)
        expected_BM = network.expected(found.event_ids_BG, found.listed_ids_BG)
        return functional.mse_loss(expected_BM, found.outcomes_BM)

    def _controller_loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Cross entropy against smooth labels of what is expected, a refresh paid for."""
        network = _network(model)
        found = decisions(network, self.config, batch, rng)
        logits_BM = network.chosen(found.event_ids_BG, found.listed_ids_BG)
        return functional.cross_entropy(logits_BM, self._labels(network, found))

    def _told_loss(self, model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
        """Cross entropy of the mechanism that a table says is best."""
        taken_B = batch.labels_BC[:, 0] > 0
        logits_BM = self._told(_network(model), batch)[taken_B]
        # A batch may hold no row that takes its mechanism, and then has nothing to say.
        best_B = batch.candidates_BC[taken_B, 0] - 1
        return functional.cross_entropy(logits_BM, best_B, reduction="sum") / len(batch.labels_BC)

    def _told_logits(
        self, model: nn.Module, batch: Batch, _: torch.Generator | None = None
    ) -> Tensor:
        """Logits of mechanisms 1 to 3, which are the candidates: (B, C)."""
        return self._told(_network(model), batch).gather(1, (batch.candidates_BC - 1).clamp(min=0))

    def _told(self, network: McrecNetwork, batch: Batch) -> Tensor:
        """What is chosen for histories alone, before there is a list: (B, M)."""
        now_BG = cut_windows(batch.history_BH, self.config.cloud_window)
        items_VD = network.device.residual.trunk.items.table
        logits_BM: Tensor = network.controller(items_VD, now_BG, torch.zeros_like(now_BG))
        return logits_BM

    def _labels(self, network: McrecNetwork, found: Decisions) -> Tensor:
        with torch.no_grad():
            expected_BM = network.expected(found.event_ids_BG, found.listed_ids_BG)
        return labels(expected_BM, self.config.refresh_cost, self.config.temperature)

    def _fresh(self, model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
        return self._listed(_network(model), batch, 0)

    def _reranked(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """By the device, with lists as old as a session lets them get."""
        network = _network(model)
        with torch.no_grad():
            prior_BC = self._listed(network, batch, _ages(batch, rng))
        return self._own(network, batch, prior_BC)

    def _as_expected(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        network = _network(model)
        return self._by(network, batch, rng, network.expected)

    def _as_chosen(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        network = _network(model)
        return self._by(network, batch, rng, network.chosen)

    def _by(
        self,
        network: McrecNetwork,
        batch: Batch,
        rng: torch.Generator,
        values: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Scores of what ``values`` choose within the budget, lists of every age."""
        age_B = _ages(batch, rng)
        now_BG, then_BG = (
            cut_windows(batch.history_BH, self.config.cloud_window, age) for age in (0, age_B)
        )
        kept_BC, fresh_BC = self._listed(network, batch, age_B), self._listed(network, batch, 0)
        own_BC = self._own(network, batch, kept_BC)
        values_BM = values(now_BG, then_BG)
        rerank_B1 = (values_BM[:, DEVICE] > values_BM[:, SESSION])[:, None]
        local_BC = torch.where(rerank_B1, own_BC, kept_BC)
        gain_B = values_BM[:, REFRESH] - values_BM[:, [SESSION, DEVICE]].amax(-1)
        refresh_B1 = (gain_B > gain_B.quantile(1 - self.config.share))[:, None]
        return torch.where(refresh_B1, fresh_BC, local_BC)

    def _listed(self, network: McrecNetwork, batch: Batch, age: Tensor | int) -> Tensor:
        windows_BG = cut_windows(batch.history_BH, self.config.cloud_window, age)
        logits_BC: Tensor = network.cloud(windows_BG, batch.candidates_BC)
        return logits_BC

    def _own(self, network: McrecNetwork, batch: Batch, prior_BC: Tensor) -> Tensor:
        # The original's table tells priors; elsewhere they are those of the own cloud.
        if self.config.part == "device" and batch.prior_BC is not None:
            prior_BC = batch.prior_BC
        windows_BT = cut_windows(batch.history_BH, self.config.features.window)
        logits_BC: Tensor = network.device(windows_BT, batch.candidates_BC, prior_BC)
        return logits_BC


def _part(name: str) -> Callable[[nn.Module], Iterable[nn.Parameter]]:
    def parameters(model: nn.Module) -> Iterable[nn.Parameter]:
        return _network(model).get_submodule(name).parameters()

    return parameters


def _chooser(model: nn.Module) -> Iterable[nn.Parameter]:
    """The controller, and the items that it otherwise gets from the device's ranker."""
    network = _network(model)
    yield from network.controller.parameters()
    yield from network.device.residual.trunk.items.vectors.parameters()


def _ages(batch: Batch, rng: torch.Generator) -> Tensor:
    rows = len(batch.history_BH)
    return torch.randint(0, LONGEST, (rows,), generator=rng).to(batch.history_BH.device)


def _bce(logits_BC: Tensor, batch: Batch) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits_BC, batch.labels_BC)


def _network(model: nn.Module) -> McrecNetwork:
    assert isinstance(model, McrecNetwork)  # noqa: S101 - built by this method's own `build`
    return model


METHOD = Mcrec
