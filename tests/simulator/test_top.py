"""``concerto top`` over endpoints that show what a test counted."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from shared_models.contract.errors import BadSetting
from shared_models.exposition import exposed
from shared_models.logs.moments import Moments
from simulator import cli
from simulator.metrics import ReplayMetrics
from simulator.tally import Tally
from simulator.top import cli as top_cli
from simulator.top.change import Change
from simulator.top.scrape import NobodyAnswers, Scrape, _samples, endpoint, scrape
from simulator.top.view import view
from tests.simulator.conftest import make_bundle, make_rankings

CLOUD = """\
process_start_time_seconds {start}
process_resident_memory_bytes 1048576
process_open_fds 31
concerto_asks_total{{kind="refresh",status="ok"}} {ok}
concerto_asks_total{{kind="refresh",status="overloaded"}} 20
concerto_ask_seconds_bucket{{kind="refresh",le="0.001"}} 0
concerto_ask_seconds_bucket{{kind="refresh",le="0.01"}} {ok}
concerto_ask_seconds_bucket{{kind="refresh",le="+Inf"}} {all}
concerto_ask_seconds_count{{kind="refresh"}} {all}
concerto_ask_seconds_sum{{kind="refresh"}} 1
concerto_queue_depth{{queue="personalize"}} 17
concerto_batch_size_count{{queue="personalize"}} 10
concerto_batch_size_sum{{queue="personalize"}} 25
concerto_payload_bytes_total{{purpose="refresh",direction="up"}} 10240
concerto_payload_bytes_total{{purpose="refresh",direction="down"}} 0
concerto_sessions 4
concerto_bundle_info{{method="duet",bundle_id="0123456789abcdef"}} 1
"""


class Answers(BaseHTTPRequestHandler):
    """Says what its server holds."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.text)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def said() -> Iterator[Callable[[str], str]]:
    """Starts an endpoint that says a text, and gives its URL."""
    servers = []

    def start(text: str) -> str:
        server = HTTPServer(("127.0.0.1", 0), Answers)
        server.text = text.encode()
        servers.append(server)
        Thread(target=server.serve_forever, args=(0.01,)).start()
        return f"http://127.0.0.1:{server.server_port}/metrics"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def looked(text: str, at: float = 1100.0) -> Scrape:
    return Scrape("http://cloud:9464/metrics", at, _samples(text))


def cloud(ok: int = 100, start: float = 1000.0) -> str:
    return CLOUD.format(ok=ok, all=ok + 20, start=start)


def drawn(*changes: Change | NobodyAnswers) -> str:
    console = Console(width=150)
    with console.capture() as capture:
        console.print(view(changes))
    return capture.get()


def test_a_first_look_shows_what_was_since_the_process_began() -> None:
    shown = " ".join(drawn(Change(looked(cloud()))).split())

    assert "4 sessions, duet 0123456789ab, 1.0 MiB, 31 files, since its start" in shown
    # In 100 seconds.
    assert "refresh 1.2 0.2 6.4 ms 10.0 ms" in shown
    assert "personalize 17 0.1 2.5" in shown
    assert "refresh 102 B 0 B" in shown


def test_later_looks_show_what_has_happened_meanwhile() -> None:
    change = Change(looked(cloud(300), 1110.0), looked(cloud(100), 1100.0))

    assert change.rate("concerto_asks_total", status="ok") == 20.0
    assert change.rate("concerto_asks_total", status="overloaded") == 0.0
    assert "last 10 s" in drawn(change)


def test_a_process_that_was_started_anew_counts_from_nothing() -> None:
    change = Change(looked(cloud(30, start=1105.0), 1110.0), looked(cloud(100), 1100.0))

    assert change.seconds == 5.0
    assert change.rate("concerto_asks_total", status="ok") == 6.0


@pytest.mark.parametrize(
    ("share", "expected"), [(0.25, 0.5), (0.5, 1.0), (0.75, 2.25), (0.95, 3.0), (1.0, 3.0)]
)
def test_quantiles_are_those_of_prometheus(share: float, expected: float) -> None:
    counts: Mapping[str, int] = {"1.0": 5, "3.0": 9, "+Inf": 10}
    text = "".join(f'x_bucket{{le="{bound}"}} {count}\n' for bound, count in counts.items())
    text = f"process_start_time_seconds 1\n{text}x_count 10\n"

    found = Change(looked(text)).quantile(share, "x")

    assert found == pytest.approx(expected)


def test_of_nothing_there_is_no_quantile_and_no_mean() -> None:
    change = Change(looked('x_bucket{le="+Inf"} 0\nx_count 0\nx_sum 0\n'))

    assert math.isnan(change.quantile(0.5, "x"))
    assert math.isnan(change.mean("x"))


def test_one_frame_shows_a_simulator_and_a_cloud(
    said: Callable[[str], str], moments: Moments, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics, tally = ReplayMetrics(), Tally(moments)
    counts = metrics.begin("duet", 0, make_bundle().id, len(moments))
    sizes = moments.sizes[:2]
    counts.ranked(tally, tally.enter(0, make_rankings([0, 1], np.zeros(sizes.sum()))))
    with exposed("0") as exposition:
        exposition.registry.register(metrics)
        assert exposition.url is not None

        top_cli.top([exposition.url, said(cloud())], once=True)

    shown = " ".join(capsys.readouterr().out.split())
    assert f"duet, seed 0 0 2 of {len(moments)}" in shown
    assert "1.8 ms 2.4 ms" in shown
    assert "cloud http://127.0.0.1" in shown


def test_it_looks_again_and_again_until_ctrl_c(
    said: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other = said(cloud()), said(cloud())
    looks: list[str] = []
    left = iter([None, None, KeyboardInterrupt])

    def sleep(seconds: float) -> None:
        assert seconds == 7.0
        if (stop := next(left)) is not None:
            raise stop

    def seen(url: str, at: float) -> Scrape:
        looks.append(url)
        if url == other and looks.count(url) == 2:
            raise NobodyAnswers(url, "gone")
        return scrape(url, at)

    monkeypatch.setattr(top_cli.time, "sleep", sleep)
    monkeypatch.setattr(top_cli, "scrape", seen)

    top_cli.top([first, other], every=7.0)

    assert looks == [first, other] * 3
    assert "4 sessions" in capsys.readouterr().out


@given(st.text(max_size=200), st.integers(0, len(cloud()) - 1), st.integers(0, 50))
def test_whatever_an_endpoint_says_is_metrics_or_refused(text: str, at: int, cut: int) -> None:
    page = cloud()[:at] + text + cloud()[at + cut :]
    try:
        found = _samples(page)
    except ValueError:
        return

    assert drawn(Change(Scrape("http://cloud:9464/metrics", 1.0, found)))


def test_who_went_away_is_shown_as_missing() -> None:
    shown = drawn(NobodyAnswers("http://127.0.0.1:9/metrics", "gone"), Change(looked(cloud())))

    assert "http://127.0.0.1:9/metrics: does not answer" in shown
    assert "4 sessions" in shown


@pytest.mark.parametrize(
    "text", ["", "up 1\n", 'x_bucket{le=":1"} 1\n', "<html>", 'x{y="z} 1\n', "x y z\n"]
)
def test_an_endpoint_of_something_else_is_told_from_ours(
    said: Callable[[str], str], text: str
) -> None:
    with pytest.raises(NobodyAnswers, match=r"no endpoint of metrics|shows no metrics of Concerto"):
        scrape(said(text), 0.0)


@pytest.mark.parametrize("urls", [["127.0.0.1:9"], []])
def test_where_nobody_answers_the_command_says_so_and_exits_with_2(
    urls: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(top_cli, "DEFAULT", ("127.0.0.1:9", "127.0.0.1:9"))
    monkeypatch.setattr(sys, "argv", ["concerto", "top", "--once", *urls])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: http://127.0.0.1:9/metrics: nobody answers")
    assert "--metrics" in told


def test_without_urls_whoever_answers_is_shown(
    said: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(top_cli, "DEFAULT", ("127.0.0.1:9", said(cloud())))

    top_cli.top(once=True)

    assert "4 sessions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("9464", "http://127.0.0.1:9464/metrics"),
        ("cloud:9464", "http://cloud:9464/metrics"),
        ("https://cloud", "https://cloud/metrics"),
        ("http://cloud:1/", "http://cloud:1/metrics"),
        ("http://cloud:1/own/path", "http://cloud:1/own/path"),
    ],
)
def test_addresses_are_read_as_people_write_them(text: str, url: str) -> None:
    assert endpoint(text) == url


@pytest.mark.parametrize("text", ["", "file:///etc/passwd", "ftp://a", "http://", "a b"])
def test_what_is_no_address_of_an_endpoint_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="write HOST:PORT"):
        endpoint(text)
