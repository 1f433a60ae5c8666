"""A small world of sessions: a learnt controller against chance, fixed rules and an oracle.

Policies are played by torch over the values of every list and re-ranking, as the bench's oracle has
them; that devices do the same is tested with the method.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.session_oracle import Known, outcomes, spend
from cloud_server.behaviour import Behaviour
from cloud_server.checkpoints import Trained
from cloud_server.recipe import TrainSettings
from cloud_server.train import train
from shared_models.catalog import load_method, resolve
from shared_models.layers.sequence import cut_windows
from shared_models.logs.moments import SESSION, Moments, replay_moments
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.worlds.sessions import SessionWorld, read_sessions
from shared_models.logs.worlds.topics import Topics
from tests.cloud_server.test_train import Silent

pytestmark = pytest.mark.timeout(600)
WORLD = SessionWorld(topics=Topics(count=10, size=20), users=100, sessions=10, noise=0.05)
Policy = Callable[[int, int, int], bool]
"""Whether to refresh, from session, moment of the list, and moment."""


class Played:
    """Sessions of the test part, what each mechanism brings there, and what the controller says."""

    def __init__(self, trained: Trained, log: PreparedLog) -> None:
        self.moments = replay_moments(log, SESSION)
        self.known: Known = outcomes(trained, log, self.moments)
        self.gains, self.reranks = _said(trained, log, self.moments)

    def value(self, asks: Policy, *, rerank: bool | None = None) -> tuple[np.ndarray, float]:
        """Mean value of each session, and the share of refreshes inside sessions.

        Args:
            asks: when.
            rerank: whether what is between is re-ranked; None: as the controller says.
        """
        values, asked, free = [], 0, 0
        for session, (kept, own) in enumerate(zip(self.known.kept, self.known.own, strict=True)):
            held, found = 0, [kept[0, 0]]
            for moment in range(1, len(kept)):
                free += 1
                if asks(session, held, moment):
                    held, asked = moment, asked + 1
                local = self.reranks[session][held, moment] > 0 if rerank is None else rerank
                scores = own if local and held != moment else kept
                found.append(scores[held, moment])
            values.append(np.mean(found))
        return np.array(values), asked / free

    def controlled(self, threshold: float) -> tuple[np.ndarray, float]:
        return self.value(lambda session, held, now: self.gains[session][held, now] > threshold)

    def threshold(self, rate: float) -> float:
        """At which the controller refreshes at most so often."""
        return next(cost for cost in self.costs(50) if self.controlled(cost)[1] <= rate)

    def costs(self, count: int) -> list[float]:
        """Thresholds from the lowest gain to the highest."""
        said = [gains[np.triu_indices(len(gains), 1)] for gains in self.gains]
        return np.quantile(np.concatenate(said), np.linspace(0, 1, count)).tolist()


def _said(
    trained: Trained, log: PreparedLog, moments: Moments
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Gain and rerank of the controller, for every list and every later moment of a session."""
    controller = trained.method.controller(trained.model).controller.eval()
    behaviour = Behaviour.of(log.events, log.users)
    gains, reranks = [], []
    for user in np.unique(moments.user):
        of_user = np.flatnonzero(moments.user == user)
        for about in np.split(of_user, np.flatnonzero(moments.begins[of_user])[1:]):
            histories = behaviour.histories(moments.user[about], moments.seq[about], 60)
            windows = cut_windows(torch.from_numpy(histories), trained.method.config.cloud_window)
            then, now = np.triu_indices(len(about), 1)
            with torch.inference_mode():
                _, gain, rerank, _ = controller(windows[now], windows[then])
            for found, values in ((gains, gain), (reranks, rerank)):
                found.append(np.zeros((len(about), len(about))))
                found[-1][then, now] = values.numpy()
    return gains, reranks


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    torch.set_num_threads(1)
    folder: Path = tmp_path_factory.mktemp("sessions")
    log = prepare(read_sessions(WORLD), "user-tail", folder / "log")
    own = {"cloud_window": 20, "horizon": 8, "negatives": 20}
    method = load_method("mcrec", resolve("mcrec", log.items, "gru4rec", {"mcrec": own}))
    settings = TrainSettings(epochs=12, learning_rate=0.01)
    trained = train(method, log, settings, 0, folder / "model", Silent())
    return Played(trained, log)


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % over sessions drawn with replacement."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(differences, (1000, len(differences))).mean(1)
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


@pytest.mark.slow
@pytest.mark.parametrize("budget", [0.1, 0.2])
def test_a_controller_is_worth_more_than_chance_and_fixed_rules_and_less_than_an_oracle(
    played: Played, budget: float
) -> None:
    chosen, rate = played.controlled(played.threshold(budget))
    rng = np.random.default_rng(0)

    by_chance, _ = played.value(lambda *_: rng.random() < rate)
    fixed = [played.value(lambda *_: False, rerank=rerank) for rerank in (False, True)]
    for every in range(2, 20):
        due = partial(_due, every)
        fixed.append(played.value(due, rerank=True))
    best = max((values for values, cost in fixed if cost <= rate), key=np.mean)
    _, oracle = spend(played.known, round(rate * int((~played.moments.begins).sum())))

    assert 0.03 < rate <= budget
    assert interval(chosen - by_chance)[0] > 0
    assert interval(chosen - best)[0] > 0
    assert chosen.mean() < oracle.mean()


@pytest.mark.slow
def test_a_dearer_refresh_is_rarer_and_one_beyond_price_never_comes(played: Played) -> None:
    rates = [played.controlled(cost)[1] for cost in (*played.costs(6), 1e9)]

    assert all(dear < cheap for cheap, dear in pairwise(rates[:-1]))
    assert rates[-1] == 0


def _due(every: int, _: int, held: int, moment: int) -> bool:
    return moment - held >= every
