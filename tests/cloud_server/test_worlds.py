"""The worlds as training sees them: what histories tell at each request, and what they do not."""

from pathlib import Path

import numpy as np
import pytest

from cloud_server.behaviour import Behaviour
from shared_models.contract.metrics import auc
from shared_models.contract.tensors import Int64Array
from shared_models.logs.moments import Moments, replay_moments
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.source import Source
from shared_models.logs.worlds.memory import MemoryWorld, read_memory
from shared_models.logs.worlds.topics import Topics
from shared_models.logs.worlds.trend import TrendWorld, read_trend

TOPICS, PHASE = Topics(), 41
"""Events of behaviour from one request to the next in the world of long memory."""


def moments_of(source: Source, folder: Path) -> tuple[Moments, Int64Array]:
    """The test requests of a world, and the 100 newest items before each."""
    log: PreparedLog = prepare(source, "user-tail", folder / "log")
    moments = replay_moments(log)
    behaviour = Behaviour.of(log.events, log.users)
    return moments, behaviour.histories(moments.user, moments.seq, 100)


def main_topic(item_MT: Int64Array) -> Int64Array:
    """The most frequent topic of each row."""
    counts = [(TOPICS.of(item_MT) == topic).sum(axis=1) for topic in range(TOPICS.count)]
    return np.argmax(counts, axis=0)


def auc_of(moments: Moments, *topics_M: Int64Array) -> float:
    topic_MC = TOPICS.of(moments.candidates.reshape(-1, 5))
    known = [topic_MC == topic[:, None] for topic in topics_M]
    return auc(np.any(known, axis=0).ravel().astype(np.float32), moments.labels)


def test_histories_of_the_memory_world_reach_its_ceilings(tmp_path: Path) -> None:
    moments, items_MT = moments_of(read_memory(MemoryWorld(users=1500)), tmp_path)

    session = main_topic(items_MT[:, -10:])
    taste = main_topic(items_MT[:, -40:-10])
    taste_a_phase_ago = main_topic(items_MT[:, -40 - PHASE : -10 - PHASE])

    assert auc_of(moments, session) == pytest.approx(0.6875, abs=0.01)
    assert auc_of(moments, session, taste) == pytest.approx(0.875, abs=0.01)
    assert auc_of(moments, session, taste_a_phase_ago) == pytest.approx(0.7656, abs=0.01)


@pytest.mark.parametrize("newest", [20, 100])
def test_a_centre_s_own_history_is_blind_to_the_trend(newest: int, tmp_path: Path) -> None:
    moments, items_MT = moments_of(read_trend(TrendWorld(communities=150)), tmp_path)

    own = main_topic(items_MT[:, -newest:])

    assert auc_of(moments, own) == pytest.approx(0.5, abs=0.01)
