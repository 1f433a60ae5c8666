"""finetune: base's model, whose head every device goes on training on its own user's events."""

from torch import nn

from shared_models.method import LearnerExport, ScorerExport
from shared_models.methods.finetune.config import Config
from shared_models.trunks.plain import PlainTraining
from shared_models.trunks.ranker import BeforeHead, Ranker, SlottedScorer


class Finetune(PlainTraining):
    """Trained in the cloud as base, then on devices without it: no uplink, no traffic."""

    name = "finetune"
    config: Config

    def export(self, model: nn.Module) -> ScorerExport:
        """The ranker with its head's weights as slots."""
        ranker = _ranker(model)
        return ScorerExport(SlottedScorer(ranker), ranker.head.slots)

    def learner(self, model: nn.Module) -> LearnerExport:
        """The trunk before its head, the head, and the settings of Adam."""
        trunk = _ranker(model).trunk
        return LearnerExport(BeforeHead(trunk), trunk.through_head, self.config.learning)


def _ranker(model: nn.Module) -> Ranker:
    assert isinstance(model, Ranker)  # noqa: S101 - built by this method's own `build`
    return model


METHOD = Finetune
