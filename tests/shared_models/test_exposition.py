"""The endpoint of metrics, and the histograms that it shows."""

import socket
import urllib.error
import urllib.request

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from shared_models.contract.errors import BadSetting, PortTaken
from shared_models.exposition import Distribution, exposed


def shown(distribution: Distribution) -> dict[str, float]:
    family = HistogramMetricFamily("x", "", labels=[])
    distribution.show(family, [])
    return {s.labels.get("le", s.name): s.value for s in family.samples}


def test_a_distribution_counts_up_to_and_with_each_bound() -> None:
    distribution = Distribution((1.0, 2.0, 4.0))

    for value in (0.5, 1.0, 1.5, 4.0, 9.0):
        distribution.add(value)
    distribution.add(2.0, times=3)

    assert shown(distribution) == {
        "1.0": 2.0,
        "2.0": 6.0,
        "4.0": 7.0,
        "+Inf": 8.0,
        "x_count": 8.0,
        "x_sum": 22.0,
    }


def test_many_values_at_once_are_counted_as_one_by_one() -> None:
    values = np.random.default_rng(0).exponential(2.0, 500)
    one, many = Distribution((1.0, 2.0, 4.0)), Distribution((1.0, 2.0, 4.0))

    for value in values.tolist():
        one.add(value)
    many.add_all(values[:100])
    many.add_all(values[100:])

    assert shown(many) == pytest.approx(shown(one))


def test_an_endpoint_of_a_port_alone_answers_this_machine_about_the_process() -> None:
    with exposed("0") as exposition:
        assert exposition.url is not None
        assert exposition.url.startswith("http://127.0.0.1:")
        text = urllib.request.urlopen(exposition.url).read().decode()
    families = {family.name for family in text_string_to_metric_families(text)}

    assert {"process_resident_memory_bytes", "process_open_fds"} <= families
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(exposition.url)


def test_without_an_address_nothing_listens() -> None:
    with exposed(None) as exposition:
        assert exposition.url is None
        assert isinstance(exposition.registry, CollectorRegistry)


def test_two_processes_cannot_have_the_same_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(PortTaken, match=address), exposed(address):
            pass


@pytest.mark.parametrize("listen", ["", ":9464", "here:", "127.0.0.1:x", "127.0.0.1:70000", "-1"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(BadSetting, match="write HOST:PORT"), exposed(listen):
        pass


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"192\.0\.2\.1:0"), exposed("192.0.2.1:0"):
        pass
