"""A real container engine, and the images built on it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("cloud", "simulator", "device")
BUILD_S, PLAY_S = 1800, 1500


def _compose() -> list[str] | None:
    """The compose command of an engine that answers."""
    if (
        not shutil.which("docker")
        or subprocess.run(["docker", "info"], capture_output=True).returncode
    ):
        return None
    if not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


@dataclass(frozen=True)
class Engine:
    """Compose, as a user in the project's folder has it."""

    compose: list[str]

    def up(
        self, *options: str, seconds: int = PLAY_S, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """``compose up`` to its end, and everything but the caches away."""
        try:
            return self("up", *options, seconds=seconds, **environment)
        finally:
            self("down", "--timeout", "5", **environment)

    def __call__(
        self, *words: str, seconds: int = PLAY_S, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self.compose, *words],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )


@pytest.fixture(scope="session")
def engine() -> Engine:
    """An engine with our images, built anew from this checkout."""
    if os.environ.get("CONCERTO_ENGINE") != "required":
        pytest.skip("images take minutes to build: `make containers` does")
    compose = _compose()
    if compose is None:
        pytest.fail("no container engine with compose answers here")
    engine = Engine(compose)
    built = engine("build", seconds=BUILD_S)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return engine


def docker(*words: str) -> str:
    """What ``docker`` says."""
    done = subprocess.run(["docker", *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()
