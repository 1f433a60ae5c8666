"""What libraries read from the environment stands there before they are imported."""

import subprocess
import sys

import pytest

PROBE = """
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "grpc":
            assert os.environ["GRPC_EXPERIMENTS"] == "-event_engine_client,-event_engine_listener"
            print("in time")
sys.meta_path.insert(0, Watch())
import {module}
"""


@pytest.mark.parametrize(
    "module", ["cloud_server.server", "cloud_server.host", "device_client.cli", "simulator.cli"]
)
def test_grpc_is_told_not_to_use_its_event_engine_before_it_is_imported(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRPC_EXPERIMENTS", raising=False)

    probe = [sys.executable, "-c", PROBE.format(module=module)]
    told = subprocess.run(probe, capture_output=True, text=True, check=False)

    assert told.stdout == "in time\n", told.stderr


def test_who_sets_experiments_of_grpc_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_EXPERIMENTS", "tcp_rcv_lowat")

    asked = "import os, shared_models; print(os.environ['GRPC_EXPERIMENTS'])"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert told.stdout == "tcp_rcv_lowat\n"
