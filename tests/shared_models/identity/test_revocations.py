"""The list of revoked certificates, as it changes under a server."""

import shutil
import ssl
from pathlib import Path

import pytest

from shared_models.contract.errors import BadSetting, PathMissing
from shared_models.contract.security import Role
from shared_models.identity.revocations import Revocations, read_crl, serial_of
from tests.identities import Authority, Visitors


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path)


def serial(authority: Authority, name: str) -> int:
    pem = authority.identity(name).certificate.decode()
    return serial_of(ssl.PEM_cert_to_DER_cert(pem))


def test_a_list_that_changes_is_read_again(authority: Authority) -> None:
    authority.add(Role.DEVICE, "a")
    pem = (authority.ca / "ca.pem").read_bytes()
    revocations = Revocations(authority.ca / "crl.pem", pem)

    before = serial(authority, "a") in revocations, revocations.look()
    authority.revoke("a")

    assert before == (False, False)
    assert revocations.look()
    assert serial(authority, "a") in revocations
    assert not revocations.look()


def test_a_list_that_may_only_be_read_later_is_read_later(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    authority.add(Role.DEVICE, "a")
    revocations = Revocations(authority.ca / "crl.pem", (authority.ca / "ca.pem").read_bytes())
    authority.revoke("a")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", forbidden)
        early = [revocations.look() for _ in range(3)]

    assert early == [False] * 3
    assert len(caplog.records) == 1
    assert revocations.look()
    assert serial(authority, "a") in revocations


def forbidden(_: Path) -> bytes:
    raise PermissionError("not yours")


@pytest.mark.parametrize("damage", ["gone", "junk", "foreign"])
def test_a_damaged_list_frees_nobody(
    authority: Authority, visitors: Visitors, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    authority.add(Role.DEVICE, "a")
    authority.revoke("a")
    path, pem = authority.ca / "crl.pem", (authority.ca / "ca.pem").read_bytes()
    revocations = Revocations(path, pem)

    if damage == "gone":
        path.unlink()
    elif damage == "junk":
        path.write_text("junk")
    else:
        shutil.copy(visitors.foreign.ca / "crl.pem", path)

    assert not revocations.look()
    assert serial(authority, "a") in revocations
    assert "revocations stay as they were" in caplog.text


def test_a_list_of_another_authority_is_refused(authority: Authority, visitors: Visitors) -> None:
    with pytest.raises(BadSetting, match="not signed by the CA"):
        read_crl(visitors.foreign.ca / "crl.pem", (authority.ca / "ca.pem").read_bytes())
    with pytest.raises(PathMissing):
        read_crl(authority.ca / "none.pem", b"")
