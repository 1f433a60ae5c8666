"""A cloud in a container, over mutual TLS; devices in others that should and should not get in."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from shared_models.contract.security import Role
from shared_models.identity.tokens import read_issuer
from simulator.certificates import Request
from simulator.certs import establish, issue, revoke
from tests.containers.conftest import Engine, docker
from tests.e2e.conftest import command

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1200)]
TINY = ("--method", "duet", "--log", "synthetic", "--trunk", "pool", "--set", "train.epochs=1")
CONTAINERS_USER = 10001
NOW = datetime.now(UTC)


@dataclass
class Network:
    """A cloud and its authority, on a network of their own.

    Attributes:
        name: of the network; the cloud's container has the same.
        folder: with ``ca`` and the identities.
    """

    name: str
    folder: Path

    def identity(self, name: str, *, ca: str = "ca", now: datetime = NOW, days: int = 30) -> Path:
        """The folder of a device's new identity."""
        out = self.folder / f"device-{name}"
        issue(self.folder / ca, Request(Role.DEVICE, name, (), days), out, now)
        return handed_over(out)

    def token(self, user: int, identity: Path) -> None:
        """Lay a token of ``user`` beside an identity, bound to its certificate."""
        shown = x509.load_pem_x509_certificate((identity / "cert.pem").read_bytes())
        issuer = read_issuer(self.folder / "ca", NOW.timestamp, 3600)
        (identity / "token").write_text(issuer.token(user, shown.fingerprint(hashes.SHA256())))
        handed_over(identity)

    def rank(self, identity: Path | None, user: int = 1) -> "subprocess.CompletedProcess[str]":
        """Let a device in a container rank two items for ``user``."""
        place = ["-v", f"{identity}:/id:ro"] if identity else []
        shown = ["--identity", "/id", "--set", "token=/id/token"] if identity else ["--plaintext"]
        asked = json.dumps({"user": user, "rank": [3, 7]})
        return subprocess.run(
            [
                *("docker", "run", "--rm", "-i", "--network", self.name, *place),
                *("concerto/device", "run", "--cloud", f"{self.name}:50051", *shown),
                *("--set", "connect_s=15", "--set", "deadline_s=15"),
                *("--set", "refresh.rule=always"),
            ],
            input=asked + "\n",
            capture_output=True,
            text=True,
            timeout=120,
        )


OUT_AFTER_S = 5
"""What the documentation gives a revoked certificate."""


def handed_over(folder: Path) -> Path:
    """``folder``, owned by whom the containers run as."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, CONTAINERS_USER, CONTAINERS_USER)
    return folder


@contextmanager
def serving(bundles: Path, folder: Path, name: str) -> Iterator[None]:
    docker("network", "create", name)
    docker(
        *("run", "-d", "--name", name, "--network", name),
        *("-v", f"{bundles}:/bundles", "-v", f"{folder / 'cloud'}:/id:ro", "concerto/cloud"),
        *("serve", "--bundles", "/bundles", "--journal", "/concerto/journal.sqlite"),
        *("--listen", "0.0.0.0:50051", "--identity", "/id"),
    )
    try:
        yield
    finally:
        docker("rm", "-f", name)
        docker("network", "rm", name)


@pytest.fixture(scope="module")
def network(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("secure")
    model = folder / "model"
    trained = command("cloud_server.cli", "train", *TINY, "--out", str(model), cache=folder / "c")
    assert trained.returncode == 0, trained.stderr[-2000:]
    name = f"concerto-test-{uuid4().hex[:8]}"
    for ca in ("ca", "foreign"):
        establish(folder / ca, NOW - timedelta(days=60))
    issue(folder / "ca", Request(Role.CLOUD, "cloud", (name,), 30), folder / "cloud", NOW)
    for path in (folder, *folder.parents[:2], *model.rglob("*"), model):
        path.chmod(path.stat().st_mode | 0o755 if path.is_dir() else path.stat().st_mode | 0o044)
    handed_over(folder / "cloud")
    handed_over(model / "bundles")
    with serving(model / "bundles", folder, name):
        yield Network(name, folder)


def test_a_device_with_a_good_certificate_and_a_token_of_its_user_gets_its_parameters(
    network: Network,
) -> None:
    identity = network.identity("good")
    network.token(1, identity)

    done = network.rank(identity)

    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["source"] == "overlay"


@pytest.mark.parametrize("how", ["none", "foreign", "expired", "revoked"])
def test_a_device_without_a_good_certificate_gets_nothing(network: Network, how: str) -> None:
    identity = None
    if how != "none":
        then = NOW - timedelta(days=40) if how == "expired" else NOW
        ca = "foreign" if how == "foreign" else "ca"
        identity = network.identity(how, ca=ca, now=then)
        network.token(1, identity)
    if how == "revoked":
        crl = network.folder / "cloud" / "crl.pem"
        revoke(network.folder / "ca", "revoked", [crl], NOW)
        handed_over(network.folder / "cloud")
        time.sleep(OUT_AFTER_S)

    done = network.rank(identity)

    assert done.returncode != 0
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_good_device_gets_nothing_of_another_user(network: Network) -> None:
    identity = network.identity("curious")
    network.token(2, identity)

    done = network.rank(identity, user=1)

    # It ranks, since that never fails, but with what the bundle holds for everybody.
    assert json.loads(done.stdout)["source"] == "default-weights"


def test_a_token_is_of_no_use_with_another_certificate(network: Network) -> None:
    owner, thief = network.identity("owner"), network.identity("thief")
    network.token(1, owner)
    (thief / "token").write_bytes((owner / "token").read_bytes())
    handed_over(thief)

    done = network.rank(thief)

    assert json.loads(done.stdout)["source"] == "default-weights"
