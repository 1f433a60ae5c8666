"""cigar: devices learn from what their neighbours' devices just did, and groups have own heads."""

# Shapes: B rows, C candidates, W neighbours, K prototypes, D width.

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.layers.sequence import cut_windows
from shared_models.method import (
    Batch,
    EncoderExport,
    Facts,
    Personalization,
    ScorerExport,
    Stage,
    Uplinks,
)
from shared_models.methods.cigar.config import SHARED, Config
from shared_models.methods.cigar.network import (
    NEIGHBOURS,
    CigarNetwork,
    ExchangingScorer,
    ProfiledScorer,
    SharedVector,
)


class Cigar:
    """Trained in the cloud; at run time the cloud only passes on what neighbours said."""

    name = "cigar"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, seed: int, facts: Facts | None = None) -> nn.Module:
        """A fresh `CigarNetwork`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return CigarNetwork(self.config, facts)

    def stages(self) -> Sequence[Stage]:
        """One stage over every parameter; prototypes start at users who are far apart."""
        start = self._start if self.config.prototypes else None
        return [Stage("joint", nn.Module.parameters, self._loss, self._served_scores, start=start)]

    def score(self, model: nn.Module, batch: Batch, age: int = 0) -> Tensor:  # noqa: ARG002 - what neighbours did is in the batch
        """Logits (B, C)."""
        network = _network(model)
        read = self._read(network, batch)
        if network.prototypes is None:
            return network.ranker.trunk.through_head(read, network.ranker.head.slots)
        nearest_B = network.prototypes.similarities(self._own(network, batch)).argmax(1)
        return network.through_groups(read, nearest_B)

    def personalize(self, model: nn.Module, uplinks: Uplinks) -> Personalization:
        """What the neighbours say, and the user's group; the uplink is kept for others."""
        network = _network(model)
        device = next(network.parameters()).device
        shared_BD = torch.from_numpy(uplinks.outputs[SHARED]).to(device)
        slots: dict[str, Float32Array] = {}
        with torch.inference_mode():
            if network.exchange is not None:
                heard_BD = network.exchange(*_others(uplinks, device))
                slots[NEIGHBOURS] = heard_BD.cpu().numpy()
            groups_B = None
            if network.prototypes is not None:
                groups_B = 1 + network.prototypes.similarities(shared_BD).argmax(1).cpu().numpy()
        memory_BD = uplinks.outputs[SHARED] if network.exchange is not None else None
        return Personalization(slots, memory_BD, groups_B)

    def remember(self, model: nn.Module, histories_BL: Int64Array) -> Float32Array:
        """Shared vectors (B, D), as devices would have sent them."""
        network = _network(model)
        device = next(network.parameters()).device
        with torch.inference_mode():
            shared_BD = network.shared(torch.from_numpy(histories_BL).to(device))
        vectors: Float32Array = shared_BD.cpu().numpy()
        return vectors

    def export(self, model: nn.Module) -> ScorerExport:
        """The ranker; what neighbours say and the head of a group are slots."""
        network = _network(model)
        slots: dict[str, Tensor] = {}
        if network.exchange is not None:
            slots[NEIGHBOURS] = torch.zeros(self.config.trunk.width)
        groups: list[dict[str, Tensor]] = []
        if network.prototypes is not None:
            slots |= network.ranker.head.slots
            heads = network.heads()
            groups = [{n: v[k] for n, v in heads.items()} for k in range(self.config.groups)]
        encoder = None
        if self.config.uplink is not None:
            width = self.config.trunk.width
            encoder = EncoderExport(SharedVector(network.ranker.trunk), {SHARED: width})
        scorer = ProfiledScorer if network.profile is not None else ExchangingScorer
        return ScorerExport(scorer(network, tuple(slots)), slots, encoder, groups)

    def _loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        network = _network(model)
        read = self._read(network, batch)
        plain_BC = network.ranker.trunk.through_head(read, network.ranker.head.slots)
        plain = functional.binary_cross_entropy_with_logits(plain_BC, batch.labels_BC)
        if network.prototypes is None:
            return plain
        similarities_BK = network.prototypes.similarities(self._own(network, batch))
        noisy_BK = network.prototypes.noisy(similarities_BK, rng)
        # One prototype is drawn, not a mixture of all: so training sees what serving will.
        grouped_BC = network.through_groups(read, noisy_BK.detach().argmax(1))
        grouped = functional.binary_cross_entropy_with_logits(grouped_BC, batch.labels_BC)
        far = (1 - (noisy_BK.softmax(1).detach() * similarities_BK).sum(1)).mean()
        alike = likeness(network.prototypes.directions)
        return 2 * grouped + plain + self.config.diversity * alike + far

    def _served_scores(self, model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
        return self.score(model, batch)

    def _start(self, model: nn.Module, batch: Batch) -> None:
        network = _network(model)
        assert network.prototypes is not None  # noqa: S101 - only then the stage has a start
        network.prototypes.start(self._own(network, batch))

    def _own(self, network: CigarNetwork, batch: Batch) -> Tensor:
        """Each row's shared vector, without a gradient."""
        return network.pooled(cut_windows(batch.history_BH, self.config.shared))

    def _read(self, network: CigarNetwork, batch: Batch) -> tuple[Tensor, ...]:
        windows_BT = cut_windows(batch.history_BH, self.config.features.window)
        heard_BD = self._heard(network, batch)
        return network.read(windows_BT, batch.candidates_BC, batch.profile_BM, heard_BD)

    def _heard(self, network: CigarNetwork, batch: Batch) -> Tensor | None:
        if network.exchange is None:
            return None
        others_BWL = batch.others_BWL
        if others_BWL is None:
            width, rows = self.config.trunk.width, len(batch.history_BH)
            return torch.zeros(rows, width, device=batch.history_BH.device)
        heard_BD: Tensor = network.exchange(network.pooled(others_BWL), (others_BWL > 0).any(-1))
        return heard_BD


def likeness(directions_KD: Tensor) -> Tensor:
    """Sum of the cosines of all pairs of different prototypes, each counted twice."""
    cosines_KK = directions_KD @ directions_KD.T
    return cosines_KK.sum() - cosines_KK.diagonal().sum()


def _others(uplinks: Uplinks, device: torch.device) -> tuple[Tensor, Tensor]:
    assert uplinks.others_BWD is not None  # noqa: S101 - the manifest names neighbours
    assert uplinks.known_BW is not None  # noqa: S101 - the same
    return tuple(
        torch.from_numpy(each).to(device) for each in (uplinks.others_BWD, uplinks.known_BW)
    )  # type: ignore[return-value]


def _network(model: nn.Module) -> CigarNetwork:
    assert isinstance(model, CigarNetwork)  # noqa: S101 - built by this method's own `build`
    return model


METHOD = Cigar
