"""Learning on the device: a bundle's graph ``grad``, and Adam over the slots of one user."""

# Shapes: P numbers in all slots together.

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from device_client.adam import Adam
from device_client.allowance import LearningAccount
from device_client.history import History
from device_client.lessons import Lesson, lesson_of
from shared_models.contract.bundle import LEARNING_VECTOR, Bundle, same
from shared_models.contract.errors import BundleRefused
from shared_models.contract.federation import Layout, vector_of
from shared_models.contract.manifest import LearningSpec
from shared_models.contract.overlay import Overlay
from shared_models.contract.tensors import Float32Array
from shared_models.runtime import load_session

_GRAPH: Final = "grad"
_LOSS: Final = "loss"


class Learner:
    """Trains slots; one for all devices of a process, so it holds no state of any.

    Args:
        bundle: with a graph ``grad``.
        spec: how to train.
        providers: execution providers of onnxruntime, the best one first.

    Attributes:
        start: float32 (P,), the bundle's own slot values.
        slots: gives a vector (P,) by slot, without a copy.

    Raises:
        BundleRefused: the graph or a slot's value is not there, or the graph cannot be loaded.
    """

    def __init__(self, bundle: Bundle, spec: LearningSpec, providers: Sequence[str]) -> None:
        if _GRAPH not in bundle.manifest.graphs:
            raise BundleRefused(f"bundle {bundle.id[:12]} is to learn without a graph {_GRAPH!r}")
        defaults = bundle.defaults
        if not defaults or set(defaults) != {slot.name for slot in bundle.manifest.slots}:
            raise BundleRefused(f"bundle {bundle.id[:12]} is to learn slots that it has not")
        self.spec, self.bundle_id, self.features = spec, bundle.id, bundle.manifest.features
        self._bundle = bundle
        slots = bundle.manifest.slots
        self._graph = load_session(bundle.graph(_GRAPH), providers)
        self._outputs = [_LOSS, *(f"grad.{slot.name}" for slot in slots)]
        self.start = vector_of(defaults[slot.name] for slot in slots)
        self.slots = Layout(slots).slots

    def train(self, adam: Adam, lesson: Lesson) -> None:
        """Take the steps of a round; one whose gradient is not finite is dropped.

        Raises:
            BundleRefused: the graph does not run on ``lesson``.
        """
        for _ in range(self.spec.steps):
            feeds = {**self.slots(adam.values), **lesson}
            _, *gradients = self._graph.run_all(self._outputs, feeds)
            adam.step(vector_of(gradients), self.spec)

    def verify(self) -> None:
        """Compare the graph with the manifest, and its gradients with the cloud's.

        Raises:
            BundleRefused: they differ.
        """
        spec = self._bundle.manifest.graphs[_GRAPH]
        self._graph.check_ports(spec)
        vector = self._bundle.learning_vector if LEARNING_VECTOR in self._bundle.files else {}
        if set(vector) != {port.name for port in (*spec.inputs, *spec.outputs)}:
            raise BundleRefused(f"bundle {self.bundle_id[:12]}: its learning vector lacks a port")
        feeds = {port.name: vector[port.name] for port in spec.inputs}
        got = self._graph.run_all(self._outputs, feeds)
        if not all(same(g, vector[name]) for name, g in zip(self._outputs, got, strict=True)):
            raise BundleRefused(
                f"bundle {self.bundle_id[:12]} does not reproduce its gradients on this device"
            )


class Learned:
    """What one device has learned; nothing at all before its first round.

    Args:
        learner: shared by the process.
        user: whose device it is.
        seed: with user and event, of the items that a round draws.
        account: bears the steps.

    Attributes:
        start: float32 (P,), where learning began.
        overlay: what was learned since.
    """

    __slots__ = (
        "_account",
        "_adam",
        "_examples",
        "_learner",
        "_round_at",
        "_seed",
        "_user",
        "overlay",
        "start",
    )

    def __init__(self, learner: Learner, user: int, seed: int, account: LearningAccount) -> None:
        self._learner, self._user, self._seed, self._account = learner, user, seed, account
        self._adam: Adam | None = None
        self._round_at: int | None = None
        self._examples = 0
        self.start = learner.start
        self.overlay: Overlay | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its vectors."""
        return self._adam.nbytes if self._adam else 0

    def under(self, learner: Learner) -> "Learned":
        """This, under another bundle that has the same slots."""
        self._learner = learner
        if self.overlay is not None:
            self.overlay = replace(self.overlay, bundle_id=learner.bundle_id)
        return self

    @property
    def values(self) -> Float32Array:
        """Float32 (P,), where learning is; a step replaces the array."""
        return self._adam.values if self._adam else self.start

    def slots(self, vector: Float32Array) -> dict[str, Float32Array]:
        """A vector (P,) by slot, without a copy."""
        return self._learner.slots(vector)

    def take_examples(self) -> int:
        """Rows that steps have read since this was asked last, or since learning began."""
        examples, self._examples = self._examples, 0
        return examples

    def start_from(self, slots: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
        """Begin anew from values of some slots; those left out begin where the bundle has them.

        Returns:
            All slots, views of `start`.
        """
        # A dictionary keeps its order when a value is replaced.
        start = {**self._learner.slots(self._learner.start), **slots}
        self.start = vector_of(start.values())
        self._adam, self.overlay, self._examples = None, None, 0
        return self._learner.slots(self.start)

    def study(self, history: History) -> None:
        """A round of learning where one is due and affordable.

        It is due at each ``every``-th event, and until it was taken: the app may be busy just then.

        Raises:
            BundleRefused: the graph does not run on these events.
        """
        learner, seen = self._learner, history.events_seen
        every = learner.spec.every
        if self._round_at is None:
            self._round_at = seen - 1
        if seen // every == self._round_at // every:
            return
        if not self._account.affords_steps(learner.spec.steps):
            return
        self._round_at = seen
        # Keyed by user and event: the same whoever shares the process.
        key = np.array([self._seed, (self._user << 32) | seen], np.uint64)
        rng = np.random.Generator(np.random.Philox(key=key))
        lesson = lesson_of(history.everything(), learner.features, learner.spec, rng)
        if lesson is None:
            return
        self._adam = self._adam or Adam(self.start)
        learner.train(self._adam, lesson)
        self._account.steps += learner.spec.steps
        self._examples += learner.spec.steps * int(lesson["weights"].sum())
        self.overlay = Overlay(learner.bundle_id, seen, learner.slots(self._adam.values))


def learned_of(
    learner: Learner | None, user: int, seed: int, account: LearningAccount
) -> Learned | None:
    """What a device has learned, where devices of its bundle learn at all."""
    return Learned(learner, user, seed, account) if learner else None
