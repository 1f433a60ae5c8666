"""The dashboard over a real Prometheus that scrapes a cloud and a simulator while they play."""

import json
import math
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import ROOT, free_addresses

OBSERVE = ROOT / "docker" / "observe"
GRAFANA = OBSERVE / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "concerto.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [
    pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
SCRAPES = "200ms"


def provisioned(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((GRAFANA / "provisioning" / name).read_text()))


def test_panels_have_ids_and_places_of_their_own() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(set(ids)) == len(ids) >= 15
    assert len(set(cells)) == len(cells)
    assert all(0 <= x < 24 for x, _ in cells)


def test_every_query_asks_the_source_that_is_provisioned() -> None:
    (source,) = provisioned("datasources/prometheus.yaml")["datasources"]
    places = [*PANELS, *(target for panel in PANELS for target in panel["targets"])]

    assert {place["datasource"]["uid"] for place in places} == {source["uid"]}
    assert {place["datasource"]["type"] for place in places} == {source["type"]}


def test_the_source_knows_how_often_prometheus_scrapes() -> None:
    (source,) = provisioned("datasources/prometheus.yaml")["datasources"]
    config = yaml.safe_load((OBSERVE / "prometheus.yml").read_text())

    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_every_metric_of_ours_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "observe.md").read_text()
    asked = {name for _, expr in named() for name in re.findall(r"concerto_[a-z_]+", expr)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}

    assert len(families) >= 12
    assert [name for name in sorted(families) if f"`{name}" not in page] == []


def named() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@dataclass(frozen=True, slots=True)
class Watched:
    """A Prometheus, and the time during which there was something to see."""

    url: str
    start: float
    end: float
    logs: Path

    def series(self, query: str) -> list[dict[str, Any]]:
        """What a query gives over the time.

        In steps shorter than the pause between scrapes: on a busy machine one may find the cloud
        and the next one not, and what the first one brought is only there until then.
        """
        span = {"start": self.start, "end": self.end, "step": 0.1}
        asked = urllib.parse.urlencode({"query": query, **span})
        answer = json.load(urllib.request.urlopen(f"{self.url}/api/v1/query_range?{asked}"))
        assert answer["status"] == "success"
        return list(answer["data"]["result"])


@pytest.fixture(scope="module")
def program() -> str:
    found = shutil.which("prometheus")
    if found is None:
        reason = "no Prometheus here: `make prometheus` installs one"
        if os.environ.get("CONCERTO_PROMETHEUS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def watched(
    program: str,
    concerto_run: Callable[..., dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    """The shipped configuration, but for addresses and patience, over a small replay."""
    folder = tmp_path_factory.mktemp("prometheus")
    cloud, simulator, own = free_addresses(3)
    text = (OBSERVE / "prometheus.yml").read_text()
    text = text.replace("cloud:9464", cloud).replace("simulator:9465", simulator)
    config = yaml.safe_load(text)
    config["global"] |= {"scrape_interval": SCRAPES, "scrape_timeout": SCRAPES}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={own}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        await_ready(f"http://{own}/-/ready", process, folder / "log")
        start = time.time()
        out = tmp_path_factory.mktemp("runs") / "watched"
        concerto_run(
            out,
            *("--method", "duet", "--devices", "2", "--metrics", simulator),
            *("--set", f"cloud.metrics={cloud}", "--set", "cloud.log=json"),
        )
        yield Watched(f"http://{own}", start, time.time(), out / "logs")
    finally:
        process.terminate()
        process.wait(30)


def await_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url).close()
        except urllib.error.URLError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"Prometheus is not ready: {log.read_text()}")


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("query", "legend"), TARGETS)
def test_a_query_of_the_dashboard_finds_data(watched: Watched, query: str, legend: str) -> None:
    series = watched.series(query.replace("$__rate_interval", "1m"))

    values = [float(value) for one in series for _, value in one["values"]]
    assert any(map(math.isfinite, values)), f"{query} finds nothing"
    for label in re.findall(r"{{(\w+)}}", legend):
        assert all(label in one["metric"] for one in series)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_both_are_scraped_and_agree_about_what_was_asked(watched: Watched) -> None:
    jobs = {one["metric"]["job"] for one in watched.series("up == 1")}
    ranked = watched.series("sum(concerto_replay_recommendations_total)")
    asked = watched.series('sum(concerto_asks_total{kind="refresh",status="ok"})')

    assert jobs == {"cloud", "simulator"}
    last = [float(one["values"][-1][1]) for (one,) in (ranked, asked)]
    assert all(0 < count <= 4800 for count in last)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cloud_tells_what_is_worth_knowing_and_never_each_ask(watched: Watched) -> None:
    lines = (watched.logs / "cloud-duet-0.log").read_text().splitlines()
    noted = [json.loads(line) for line in lines if not line.startswith("listening on ")]

    assert len(noted) == len(lines) - 1, "what the fleet reads is there as it was"
    events = [line["event"] for line in noted]
    assert events == ["metrics are shown", "listening", "stopping"]
    assert noted[-1]["asks"] > 4800


def test_promtool_finds_the_configuration_right(program: str) -> None:
    done = subprocess.run(
        ["promtool", "check", "config", OBSERVE / "prometheus.yml"], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
