"""Whatever a network does to uploads and contributions, each of them counts once.

A stateful test (hypothesis): devices send, the network keeps what they sent and delivers it one to
five times in any order, the cloud is restarted in between. The model is what the devices did.
"""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cloud_server.events import EventJournal
from cloud_server.federation.counters import Counters
from cloud_server.federation.federation import Federation
from cloud_server.federation.journal import ContributionJournal
from cloud_server.groups import EVERYBODY
from protos.v1.collaboration_pb2 import Contribute
from shared_models.contract.events import Event, EventBatch
from shared_models.contract.federation import Outcome
from shared_models.contract.manifest import FederationSpec
from tests.cloud_server.federation.conftest import bundle_of, message

USERS = (3, 8)
ROUND = 1
"""All in one round: nothing is released, so that what waits can be read."""
users, copies = st.sampled_from(USERS), st.integers(1, 5)


def move(sequence: int) -> float:
    """Sums of these tell apart which contributions are in them."""
    return 2.0**-sequence


class Deliveries(RuleBasedStateMachine):
    """Two users' devices, a network without order, and a cloud."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.bundle, self.spec = bundle_of(FederationSpec(norm=100.0)), FederationSpec(norm=100.0)
        self.observed: dict[int, list[Event]] = {user: [] for user in USERS}
        self.stored = dict.fromkeys(USERS, 0)
        self.learned = dict.fromkeys(USERS, 0)
        self.accepted = dict.fromkeys(USERS, 0)
        self.uploads: list[tuple[int, EventBatch]] = []
        self.contributions: list[tuple[int, int, Contribute]] = []
        self.start()

    def start(self) -> None:
        place = Path(self.folder.name)
        self.journal = EventJournal(place / "journal.sqlite")
        self.contributed = ContributionJournal(place / "contributions.sqlite")
        self.federation = Federation(
            self.bundle, self.spec, (), EVERYBODY, self.contributed, Counters()
        )

    @rule(user=users, count=st.integers(1, 4))
    def observe(self, user: int, count: int) -> None:
        events = self.observed[user]
        events += [Event(len(events) + i + 1, float(i)) for i in range(count)]

    @rule(user=users, first=st.integers(0, 20), length=st.integers(0, 20))
    def send_upload(self, user: int, first: int, length: int) -> None:
        """Any run of what was observed: a first try, a retry, or one cut differently."""
        events = self.observed[user]
        first = min(first, len(events))
        self.uploads.append((user, EventBatch(first, tuple(events[first : first + length]))))

    @rule(user=users)
    def send_contribution(self, user: int) -> None:
        number = self.learned[user]
        self.learned[user] += 1
        self.contributions.append((user, number, message(number, value=move(number))))

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), times=copies)
    def deliver_uploads(self, data: st.DataObject, times: int) -> None:
        user, batch = data.draw(st.sampled_from(self.uploads))
        for stored in self.journal.append([(user, batch)] * times):
            if batch.first <= self.stored[user]:
                end = batch.first + len(batch.events)
                self.stored[user] = max(self.stored[user], end)
            assert stored == self.stored[user]

    @precondition(lambda self: self.contributions)
    @rule(data=st.data(), times=copies)
    def deliver_contributions(self, data: st.DataObject, times: int) -> None:
        user, number, contribution = data.draw(st.sampled_from(self.contributions))
        for _ in range(times):
            with self.contributed.commit():
                settled = self.federation.take(user, ROUND, contribution)
            if number == self.accepted[user]:
                self.accepted[user] += 1
                assert settled.outcome is Outcome.ACCEPTED
            else:
                assert settled.outcome is not Outcome.ACCEPTED
            assert settled.stored == self.accepted[user]

    @rule()
    def restart(self) -> None:
        self.close()
        self.start()

    @invariant()
    def the_journal_holds_each_event_once_from_the_first_on(self) -> None:
        kept: dict[int, list[Event]] = {user: [] for user in USERS}
        for user, sequence, event in self.journal:
            assert sequence == len(kept[user])
            kept[user].append(event)
        assert kept == {user: self.observed[user][: self.stored[user]] for user in USERS}

    @invariant()
    def each_accepted_contribution_is_in_the_sum_once(self) -> None:
        waiting = self.contributed.waiting(self.bundle.lineage, 0)
        assert {each.user: each.examples for each in waiting} == {
            user: count for user, count in self.accepted.items() if count
        }
        for each in waiting:
            expected = sum(move(number) for number in range(self.accepted[each.user]))
            np.testing.assert_allclose(each.move, expected, rtol=1e-6)

    def close(self) -> None:
        self.journal.close()
        self.contributed.close()

    def teardown(self) -> None:
        """Whoever sends until all is acknowledged ends with all of it stored."""
        for user in USERS:
            self.journal.append([(user, EventBatch(0, tuple(self.observed[user])))])
            self.stored[user] = len(self.observed[user])
        self.the_journal_holds_each_event_once_from_the_first_on()
        self.close()
        self.folder.cleanup()


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
