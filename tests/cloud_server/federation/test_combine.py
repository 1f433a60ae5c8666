"""Many moves become one: who weighs what, and what liars reach."""

# Shapes: N devices, P weights, R rows of a device.

from dataclasses import dataclass

import numpy as np

from cloud_server.federation.combine import combined
from shared_models.contract.manifest import FederationSpec
from shared_models.contract.metrics import auc
from shared_models.contract.tensors import Float32Array

MEAN = FederationSpec(norm=1e9)
ROBUST = FederationSpec(norm=1e9, combine="trimmed", trim=0.2)


def moves(*rows: list[float]) -> list[Float32Array]:
    return [np.array(row, np.float32) for row in rows]


def test_a_contributor_weighs_as_much_as_it_has_examples() -> None:
    found = combined(moves([1, 0], [0, 4]), [3, 1], MEAN)

    np.testing.assert_allclose(found, [0.75, 1.0])


def test_nobody_weighs_more_than_the_limit_whatever_it_says() -> None:
    found = combined(moves([1.0], [0.0]), [1 << 31, 1 << 16], MEAN)

    assert found == 0.5


def test_a_move_that_is_too_long_goes_as_far_as_allowed_in_its_own_direction() -> None:
    spec = FederationSpec(norm=1.0)

    found = combined(moves([30, 40], [0, 0]), [1, 1], spec)

    np.testing.assert_allclose(found, [0.3, 0.4], rtol=1e-6)


def test_the_trimmed_mean_leaves_out_both_ends_of_every_number() -> None:
    rows = moves([1, 5], [2, 4], [3, 3], [4, 2], [5, 1])
    spec = FederationSpec(norm=1e9, combine="trimmed", trim=0.4)

    found = combined([row / np.linalg.norm(row) for row in rows], [9, 1, 1, 1, 9], spec)

    middle = np.sort([row / np.linalg.norm(row) for row in rows], axis=0)[2]
    np.testing.assert_allclose(found, middle, rtol=1e-6)


def test_a_single_contributor_is_its_group() -> None:
    for spec in (MEAN, ROBUST):
        np.testing.assert_allclose(combined(moves([1, -2]), [5], spec), [1, -2])


def test_the_rate_says_how_much_of_the_move_is_taken() -> None:
    spec = FederationSpec(norm=1e9, rate=0.5)

    assert combined(moves([4.0]), [1], spec) == 2.0


@dataclass(frozen=True)
class World:
    """A taste that all devices of a group share, seen by each through its own few rows.

    Attributes:
        rows: float32 (N, R, P).
        labels: float32 (N, R).
        unseen: float32 (4000, P), for the AUC.
        wanted: of these, bool.
    """

    rows: Float32Array
    labels: Float32Array
    unseen: Float32Array
    wanted: np.ndarray

    @classmethod
    def drawn(cls, devices: int = 60, rows: int = 20, width: int = 24) -> "World":
        rng = np.random.default_rng(0)
        taste_P = rng.standard_normal(width)
        seen = rng.standard_normal((devices, rows, width)).astype(np.float32)
        unseen = rng.standard_normal((4000, width)).astype(np.float32)
        noise = rng.logistic(size=(devices, rows))
        labels = (seen @ taste_P + noise > 0).astype(np.float32)
        wanted = unseen @ taste_P + rng.logistic(size=4000) > 0
        return cls(seen, labels, unseen, wanted)

    def move(self, device: int, start_P: Float32Array) -> Float32Array:
        """What a device learns in five steps."""
        weights_P = start_P.copy()
        rows_RP, labels_R = self.rows[device], self.labels[device]
        for _ in range(5):
            chances_R = 1 / (1 + np.exp(-(rows_RP @ weights_P)))
            weights_P -= 0.3 * (chances_R - labels_R) @ rows_RP / len(rows_RP)
        return weights_P - start_P

    def trained(self, spec: FederationSpec, liars: int) -> float:
        """AUC after ten rounds in which some devices send noise a hundred times as loud."""
        rng, weights_P = np.random.default_rng(1), np.zeros(self.rows.shape[2], np.float32)
        devices = range(len(self.rows))
        for _ in devices[:10]:
            sent = [self.move(device, weights_P) for device in devices]
            loud = 100 * np.linalg.norm(sent, axis=1).mean()
            for liar in devices[:liars]:
                noise = rng.standard_normal(len(weights_P))
                sent[liar] = (loud * noise / np.linalg.norm(noise)).astype(np.float32)
            weights_P = weights_P + combined(sent, [20] * len(sent), spec)
        return auc((self.unseen @ weights_P).astype(np.float32), self.wanted)


def test_a_tenth_of_the_devices_sending_noise_costs_the_robust_mean_almost_nothing() -> None:
    world = World.drawn()

    honest, robust = world.trained(MEAN, liars=0), world.trained(ROBUST, liars=6)

    assert honest > 0.85
    assert robust >= honest - 0.005
    assert world.trained(MEAN, liars=6) < honest - 0.05, "the noise would harm nobody"


def test_the_robust_mean_costs_nothing_where_everybody_is_honest() -> None:
    world = World.drawn()

    assert world.trained(ROBUST, liars=0) >= world.trained(MEAN, liars=0) - 0.005
