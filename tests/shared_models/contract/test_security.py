"""Identities in files, and when a process may talk in clear."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from grpc import aio

from shared_models.contract.errors import BadSetting, CertificateRefused, PathMissing
from shared_models.contract.security import (
    Role,
    bind,
    demand,
    is_loopback,
    peer_of,
    read_identity,
    secured,
)
from tests.identities import Visitors


@pytest.fixture
def folder(visitors: Visitors, tmp_path: Path) -> Path:
    """A device's identity that a test may spoil."""
    return Path(shutil.copytree(visitors.authority.folder / "device", tmp_path / "identity"))


def test_an_identity_is_read_from_its_folder_and_its_key_is_not_printed(folder: Path) -> None:
    identity = read_identity(folder)

    assert identity.key == (folder / "key.pem").read_bytes()
    assert "PRIVATE" not in repr(identity)


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
def test_a_missing_file_of_an_identity_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()

    with pytest.raises(PathMissing, match=f"{name}: no such file of an identity"):
        read_identity(folder)


def test_a_missing_identity_is_named(folder: Path) -> None:
    with pytest.raises(PathMissing, match=r"nowhere.*concerto certs issue"):
        read_identity(folder / "nowhere")


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
@pytest.mark.parametrize("junk", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\n\xff"])
def test_a_file_that_is_no_pem_is_named(folder: Path, name: str, junk: bytes) -> None:
    (folder / name).write_bytes(junk)

    with pytest.raises(BadSetting, match=f"{name}.* PEM"):
        read_identity(folder)


def test_a_key_of_another_certificate_is_refused(folder: Path, visitors: Visitors) -> None:
    shutil.copy(visitors.authority.folder / "other-device" / "key.pem", folder)

    with pytest.raises(BadSetting, match=r"key.pem is not the key of .*cert.pem"):
        read_identity(folder)


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("127.0.0.1:1", True),
        ("127.8.9.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("[::ffff:127.0.0.1]:1", False),
        ("10.0.0.7:1", False),
        ("cloud:1", False),
        ("localhost.example.org:1", False),
        ("127.0.0.1.example.org:1", False),
        ("dns:///127.0.0.1:1", False),
        ("unix:/tmp/socket", False),
        ("", False),
    ],
)
def test_what_surely_stays_on_this_machine_is_loopback(address: str, *, inside: bool) -> None:
    assert is_loopback(address) is inside


def test_loopback_needs_nothing_and_elsewhere_a_word_is_needed(folder: Path) -> None:
    assert secured("cloud", "127.0.0.1:1", None, plaintext=False) is None
    assert secured("cloud", "cloud:1", None, plaintext=True) is None
    assert secured("cloud", "cloud:1", folder, plaintext=False) is not None
    with pytest.raises(BadSetting, match=r"'cloud': cloud:1 reaches beyond .*--identity"):
        secured("cloud", "cloud:1", None, plaintext=False)
    with pytest.raises(BadSetting, match="contradicts"):
        secured("cloud", "127.0.0.1:1", folder, plaintext=True)


NO_ADDRESSES = ("127.0.0.1:abc", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1", ":50051", "")


@pytest.mark.parametrize("address", NO_ADDRESSES)
async def test_what_is_no_address_is_refused_and_not_taken_for_another_one(address: str) -> None:
    words = f"write HOST:PORT, such as 127.0.0.1:50051, not '{address}'"

    with pytest.raises(BadSetting, match=f"'cloud-host': {words}"):
        secured("cloud-host", address, None, plaintext=True)
    with pytest.raises(BadSetting, match=f"'listen': {words}"):
        bind(aio.server(), address, None)


Auth = dict[str, list[bytes]]
SPOILS: dict[str, Callable[[Auth], object]] = {
    "none": lambda auth: auth.clear(),
    "no role": lambda auth: auth.update(peer_uri=[b"https://device"]),
    "two roles": lambda auth: auth["peer_uri"].append(b"concerto://cloud/a"),
    "an unknown role": lambda auth: auth.update(peer_uri=[b"concerto://root/a"]),
    "another scheme": lambda auth: auth.update(peer_uri=[b"xconcerto://device/a"]),
    "no certificate": lambda auth: auth.pop("x509_pem_cert"),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_peer_is_what_its_certificate_says_once(visitors: Visitors, spoil: str) -> None:
    pem = visitors.authority.identity("device").certificate
    auth: Auth = {"x509_pem_cert": [pem], "peer_uri": [b"concerto://device/device"]}
    peer = peer_of(auth)

    SPOILS[spoil](auth)

    assert (peer.role, peer.name, str(peer)) == (Role.DEVICE, "device", "device 'device'")
    with pytest.raises(CertificateRefused):
        peer_of(auth)


def test_a_role_is_demanded_by_name(visitors: Visitors) -> None:
    pem = visitors.authority.identity("device").certificate
    auth = {"x509_pem_cert": [pem], "peer_uri": [b"concerto://device/device"]}

    assert demand(auth, Role.DEVICE, Role.CLOUD).role is Role.DEVICE
    with pytest.raises(CertificateRefused, match="not for device 'device': it takes a simulator"):
        demand(auth, Role.SIMULATOR)
