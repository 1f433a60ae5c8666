"""The world of drifting sessions: its intents, its pauses, its ceilings."""

import numpy as np
import pytest

from shared_models.logs import sessions
from shared_models.logs.worlds.sessions import SessionWorld, intents, read_sessions


def test_a_session_of_the_world_is_a_session_of_the_log() -> None:
    world = SessionWorld(users=5, sessions=4)
    events = read_sessions(world).events.sort("user", "at")

    places = sessions.places(events["user"].to_numpy(), events["at"].to_numpy())

    assert places.tolist() == list(range(world.events)) * world.sessions * world.users


def test_intents_change_at_the_rate_of_drift_and_begin_at_home_half_of_the_time() -> None:
    world = SessionWorld(users=2000, drift=0.1)

    intent = intents(world, np.random.default_rng(0))

    changed = (intent[..., 1:] != intent[..., :-1]).mean()
    assert changed == pytest.approx(0.1 * (1 - 1 / world.topics.count), abs=0.005)
    first = intent[..., 0]
    home = np.array([np.bincount(row).argmax() for row in first])
    assert (first == home[:, None]).mean() == pytest.approx(0.5, abs=0.06)


def test_what_is_taken_follows_the_intent_but_for_the_noise() -> None:
    world = SessionWorld(users=500)
    source = read_sessions(world)
    events = source.events.sort("user", "at")

    # The same draws, in the same order, as the world made them.
    intent = intents(world, np.random.default_rng(world.seed)).ravel()
    follows = world.topics.of(events["item"].to_numpy()) == intent

    expected = 1 - world.noise + world.noise / world.topics.count
    assert follows.mean() == pytest.approx(expected, abs=0.01)
    assert source.truth["best_auc"] > source.truth["kept_auc"] > 0.6


def test_the_same_seed_makes_the_same_world_and_another_one_another() -> None:
    first, again, other = (
        read_sessions(SessionWorld(users=5, seed=seed)).events for seed in (0, 0, 1)
    )

    assert first.equals(again)
    assert not first.equals(other)
