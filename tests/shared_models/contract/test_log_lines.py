"""What processes write to their log: one line a record, whatever is in it."""

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from shared_models.contract.log_lines import LogFormat, Seldom, note, start_logging

Start = Callable[[LogFormat], io.StringIO]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts logging into a text, and puts back what was there."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def started(form: LogFormat) -> io.StringIO:
        stream = io.StringIO()
        # With ``force`` the handlers that were there would be closed.
        for handler in handlers:
            root.removeHandler(handler)
        start_logging(form, stream)
        return stream

    yield started
    root.handlers[:] = handlers
    root.setLevel(level)


LOG = logging.getLogger("concerto.test")


def test_json_lines_hold_time_level_logger_event_and_facts(start: Start) -> None:
    stream = start(LogFormat.JSON)

    note(LOG, "listening", address="127.0.0.1:1", bundles=2)

    line = json.loads(stream.getvalue())
    at = line.pop("at")
    assert line == {
        "level": "info",
        "logger": "concerto.test",
        "event": "listening",
        "address": "127.0.0.1:1",
        "bundles": 2,
    }
    assert len(at) == len("2026-01-31T12:00:00.000Z")
    assert at.endswith("Z")


def test_text_lines_hold_the_same_for_people(start: Start) -> None:
    stream = start(LogFormat.TEXT)

    note(LOG, "asks were refused", level=logging.WARNING, code="bad-ask", message="no such item")

    _, rest = stream.getvalue().split(" ", 1)
    assert rest == 'warning asks were refused code=bad-ask message="no such item"\n'


@pytest.mark.parametrize("form", list(LogFormat))
def test_what_a_device_said_cannot_forge_a_line(start: Start, form: LogFormat) -> None:
    stream = start(form)

    note(LOG, "refused", message='x"\n2026-01-31T12:00:00.000Z info forged a=b')
    LOG.info("refused %s", "y\nforged")

    assert stream.getvalue().count("\n") == 2


@pytest.mark.parametrize("form", list(LogFormat))
def test_the_trace_of_an_error_stays_in_its_line(start: Start, form: LogFormat) -> None:
    stream = start(form)

    try:
        int("no number")
    except ValueError:
        LOG.exception("failed")

    assert stream.getvalue().count("\n") == 1
    assert "Traceback" in stream.getvalue()
    assert "no number" in stream.getvalue()


def test_a_warning_that_comes_with_every_ask_is_told_once(start: Start) -> None:
    stream = start(LogFormat.TEXT)

    for user in range(100):
        LOG.warning("user %d: no refresh", user)
    for _ in range(2):
        note(LOG, "noted", level=logging.WARNING)
        LOG.info("told")

    assert stream.getvalue().count("no refresh") == 1
    assert stream.getvalue().count("noted") == stream.getvalue().count("told") == 2


def test_seldom_counts_what_it_held_back_of_each_kind() -> None:
    now = 100.0
    seldom = Seldom(10.0, lambda: now)

    first = [seldom.due("a"), seldom.due("a"), seldom.due("b"), seldom.due("a")]
    now = 109.9
    early = seldom.due("a")
    now = 110.0
    later = [seldom.due("a"), seldom.due("a"), seldom.due("b")]

    assert first == [1, None, 1, None]
    assert early is None
    assert later == [4, None, 1]
