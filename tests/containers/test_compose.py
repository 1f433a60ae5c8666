"""Cloud, simulator and devices in containers of their own, by the compose file that users have."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.containers.conftest import ROOT, SERVICES, Engine, docker
from tests.e2e.conftest import command
from tests.runs import comparable, found, payload

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]
RUNS = ROOT / "runs"
MB = 10**6
LARGEST = {"device": 200, "cloud": 1000}
"""MB of resident memory in a container."""


STAT = "cat /sys/fs/cgroup/memory.stat 2> /dev/null || cat /sys/fs/cgroup/memory/memory.stat"
RESIDENT = {"anon", "file_mapped"}, {"total_rss", "total_mapped_file"}
"""What is resident of a control group, its own and what its processes map: version 2, version 1."""


class Memory(dict[str, int]):
    """Most resident bytes of a container, shared pages counted once, by its service."""

    def look(self) -> None:
        for line in docker(
            "ps", "--format", '{{.ID}} {{.Label "com.docker.compose.service"}}'
        ).splitlines():
            container, _, service = line.partition(" ")
            held = resident(docker("exec", container, "sh", "-c", STAT))
            self[service] = max(self.get(service, 0), held)

    def must_fit(self) -> None:
        print(f"most resident memory, MB: { {name: size / MB for name, size in self.items()} }")
        for service, most in LARGEST.items():
            assert self[service] <= most * MB


def resident(stat: str) -> int:
    """Bytes, by a control group's own statistics."""
    found = {name: int(count) for name, count in map(str.split, stat.splitlines())}
    return max(sum(found.get(name, 0) for name in names) for names in RESIDENT)


@contextmanager
def watched() -> Iterator[Memory]:
    """The memory of all containers that run meanwhile."""
    memory, over = Memory(), threading.Event()

    def watch() -> None:
        while not over.wait(1):
            with suppress(subprocess.CalledProcessError):  # a container is just going
                memory.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()


def without(scenario: str, out: Path) -> Path:
    """The same scenario without containers, from this checkout, with the user's own caches."""
    cache = Path(os.environ.get("CONCERTO_CACHE") or Path.home() / ".cache" / "concerto")
    arguments = ("--scenario", f"docker/scenarios/{scenario}", "--devices", "2", "--out", str(out))
    done = command("simulator.cli", "run", *arguments, cache=cache, timeout=1500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


def test_images_keep_to_their_size_and_the_device_has_no_torch(engine: Engine) -> None:
    base = os.environ.get("BASE_IMAGE", "python:3.11-slim-bookworm")
    sizes = {
        name: int(docker("image", "inspect", "--format", "{{.Size}}", name))
        for name in (base, *(f"concerto/{service}" for service in SERVICES))
    }
    above = {name: (size - sizes[base]) / MB for name, size in sizes.items()}
    print(f"layers above the base, MB: {above}")

    imported = ["run", "--rm", "--entrypoint", "python", "concerto/device", "-c"]
    looked = docker(*imported, "import importlib.util; print(importlib.util.find_spec('torch'))")

    assert above["concerto/device"] <= 250
    assert looked == "None"


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_runs_as_root(engine: Engine, service: str) -> None:
    who = docker("run", "--rm", "--entrypoint", "id", f"concerto/{service}", "-u")

    assert int(who) > 0


def test_the_demo_comes_up_and_gives_the_figures_of_a_run_without_containers(
    engine: Engine, tmp_path: Path
) -> None:
    shutil.rmtree(RUNS / "demo", ignore_errors=True)

    with watched() as memory:
        done = engine.up("--scale", "device=4")

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    memory.must_fit()
    assert "duet" in (RUNS / "demo" / "report.html").read_text()
    here = without("demo.yaml", tmp_path / "demo")
    assert comparable(found(RUNS / "demo")) == comparable(found(here))
    assert payload(RUNS / "demo").equals(payload(here))
    assert len(found(RUNS / "demo", "environment.json")["devices"]) == 4


def test_five_methods_across_containers_give_the_figures_of_a_run_without(
    engine: Engine, tmp_path: Path
) -> None:
    out = RUNS / "methods"
    shutil.rmtree(out, ignore_errors=True)

    with watched() as memory:
        done = engine.up(
            CONCERTO="run --scenario work/methods.yaml --out runs/methods", DEVICES="2"
        )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    memory.must_fit()
    here = without("methods.yaml", tmp_path / "methods")
    assert comparable(found(out)) == comparable(found(here))
    assert payload(out).equals(payload(here))


def test_a_run_that_fails_fails_compose_and_says_why(engine: Engine) -> None:
    try:
        done = engine("up", CONCERTO="run --method duett")
        said = engine("logs", "simulator")
    finally:
        engine("down", "--timeout", "5")

    assert done.returncode != 0
    assert "unknown method 'duett': did you mean 'duet'?" in said.stdout + said.stderr
    assert "Traceback" not in said.stdout + said.stderr
