"""A certificate authority in a folder, by its commands."""

import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID as Use

from shared_models.contract.errors import BadSetting
from shared_models.contract.security import Role, read_identity
from shared_models.identity.revocations import read_crl
from shared_models.identity.tokens import read_verifier
from simulator import certs as folders
from simulator import cli
from simulator.certificates import Request, new_authority, new_key, signed
from tests.identities import Visitors

NOW = datetime(2030, 1, 1, tzinfo=UTC)
Certs = Callable[..., tuple[int, str, str]]


@pytest.fixture
def certs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Certs:
    """Runs ``concerto certs ...`` in an empty folder; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["concerto", "certs", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), *capsys.readouterr()

    return run


@pytest.fixture
def authority(certs: Certs) -> Certs:
    """The commands, with a CA in ``ca``."""
    assert certs("init", "--ca", "ca")[0] == 0
    return certs


def loaded(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


FILES = {
    "cloud": {"ca.pem", "cert.pem", "key.pem", "crl.pem", "tokens.pub.pem"},
    "simulator": {
        "ca.pem",
        "cert.pem",
        "key.pem",
        "crl.pem",
        "tokens.pub.pem",
        "tokens.key.pem",
    },
    "device": {"ca.pem", "cert.pem", "key.pem"},
}
USES = {
    "cloud": [Use.SERVER_AUTH, Use.CLIENT_AUTH],
    "simulator": [Use.SERVER_AUTH, Use.CLIENT_AUTH],
    "device": [Use.CLIENT_AUTH],
}


@pytest.mark.parametrize("role", FILES)
def test_an_identity_holds_what_its_role_needs_and_no_more(
    authority: Certs, tmp_path: Path, role: str
) -> None:
    code, said, _ = authority(
        "issue", "--ca", "ca", "--role", role, "--name", "one", "--days", "9", "--out", "own/one"
    )

    own = tmp_path / "own" / "one"
    certificate = loaded(own / "cert.pem")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert (code, "next: start that process with --identity own/one" in said) == (0, True)
    assert {path.name for path in own.iterdir()} == FILES[role]
    assert read_identity(own).authority == (tmp_path / "ca" / "ca.pem").read_bytes()
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"concerto://{role}/one"]
    assert list(uses) == USES[role]
    certificate.verify_directly_issued_by(loaded(own / "ca.pem"))
    assert timedelta(days=9) <= certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert certificate.not_valid_after_utc <= datetime.now(UTC) + timedelta(days=9)


def test_secrets_are_their_owners_alone(authority: Certs, tmp_path: Path) -> None:
    authority("issue", "--ca", "ca", "--role", "simulator", "--name", "s", "--out", "s")

    for path in tmp_path.glob("*/*.pem"):
        secret = path.name in ("key.pem", "ca.key.pem", "tokens.key.pem")
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if secret else 0o644), path
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ca", "s")} == {0o700}


def test_a_server_is_known_by_its_hosts_and_on_its_own_machine(
    authority: Certs, tmp_path: Path
) -> None:
    hosts = ("--host", "cloud.example.org", "--host", "10.0.0.7", "--host", "::7")
    authority("issue", "--ca", "ca", "--role", "cloud", "--name", "c", *hosts, "--out", "c")

    certificate = loaded(tmp_path / "c" / "cert.pem")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["cloud.example.org", "localhost"]
    addresses = list(map(str, names.get_values_for_type(x509.IPAddress)))
    assert addresses == ["10.0.0.7", "::7", "127.0.0.1", "::1"]


ISSUE = ("issue", "--ca", "ca", "--role", "device", "--out", "new")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("init", "--ca", "ca"), "there is something in ca: name a new folder"),
        (("issue", "--ca", "none", *ISSUE[3:], "--name", "a"), "none/ca.pem: no such file of a CA"),
        ((*ISSUE, "--name", "../a"), "'../a': write up to 48"),
        ((*ISSUE, "--name", "a", "--host", "h"), "a device serves nobody: it has no --host"),
        ((*ISSUE, "--name", "a", "--days", "4000"), "4000: from 1 to the end of the CA"),
        ((*ISSUE[:-1], "full", "--name", "a"), "there is something in full: name a new folder"),
        ((*ISSUE[:-1], "full/x", "--name", "a"), "there is something in full/x"),
        ((*ISSUE[:-1], "full/x/y", "--name", "a"), "full/x/y cannot be written"),
        (
            (
                "issue",
                "--ca",
                "ca",
                "--role",
                "cloud",
                "--name",
                "a",
                "--host",
                "a b",
                "--out",
                "n",
            ),
            "'a b' is neither a DNS name nor an address",
        ),
        (("revoke", "--ca", "ca", "--name", "know"), "did you mean 'known'?"),
        (("revoke", "--ca", "ca", "--name", "known", "--publish", "no.pem"), "no.pem: no such"),
        (("revoke", "--ca", "ca", "--name", "known", "--publish", "full/x"), "full/x is no list"),
        (("token", "--ca", "ca", "--user", "1", "--certificate", "full/x"), "no certificate"),
        (("token", "--ca", "ca", "--user", "1", "--certificate", "no"), "no: no such certificate"),
    ],
)
def test_wrong_input_ends_with_2_says_what_to_do_and_writes_nothing(
    authority: Certs, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    authority("issue", "--ca", "ca", "--role", "device", "--name", "known", "--out", "known")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("precious")

    def content() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in tmp_path.rglob("*.pem")}

    before = content()

    code, _, said = authority(*arguments)

    assert (code, words in said) == (2, True), said
    assert (tmp_path / "full" / "x").read_text() == "precious"
    issued = {path: data for path, data in content().items() if path.parent.name != "issued"}
    assert issued == {p: data for p, data in before.items() if p.parent.name != "issued"}


def test_a_spoilt_ca_is_named(authority: Certs, visitors: Visitors, tmp_path: Path) -> None:
    key = tmp_path / "ca" / "ca.key.pem"
    key.write_bytes((visitors.foreign.ca / "ca.key.pem").read_bytes())

    mixed = authority(*ISSUE, "--name", "a")
    key.write_text("junk")
    junk = authority(*ISSUE, "--name", "a")

    assert (mixed[0], "ca.key.pem is not the key of" in mixed[2]) == (2, True)
    assert (junk[0], "ca holds no CA" in junk[2]) == (2, True)


def test_revoking_takes_back_every_certificate_of_a_name_wherever_lists_are_read(
    authority: Certs, tmp_path: Path
) -> None:
    for name, out in (("a", "a1"), ("a", "a2"), ("a.b", "b")):
        authority("issue", "--ca", "ca", "--role", "device", "--name", name, "--out", out)
    authority("issue", "--ca", "ca", "--role", "cloud", "--name", "c", "--out", "c")
    serials = {n: loaded(tmp_path / n / "cert.pem").serial_number for n in ("a1", "a2", "b")}

    first = authority("revoke", "--ca", "ca", "--name", "a", "--publish", "c/crl.pem")
    again = authority("revoke", "--ca", "ca", "--name", "a")
    authority("revoke", "--ca", "ca", "--name", "a.b")

    pem = (tmp_path / "ca" / "ca.pem").read_bytes()
    assert "revoked: 2 certificates of a" in first[1]
    assert "a was revoked before" in again[1]
    assert read_crl(tmp_path / "c" / "crl.pem", pem) == {serials["a1"], serials["a2"]}
    assert read_crl(tmp_path / "ca" / "crl.pem", pem) == set(serials.values())


def test_what_is_issued_after_a_revocation_starts_with_the_list_as_it_is(
    authority: Certs, tmp_path: Path
) -> None:
    authority("issue", "--ca", "ca", "--role", "device", "--name", "a", "--out", "a")
    authority("revoke", "--ca", "ca", "--name", "a")
    authority("issue", "--ca", "ca", "--role", "device", "--name", "a", "--out", "anew")
    authority("issue", "--ca", "ca", "--role", "cloud", "--name", "c", "--out", "c")

    listed = read_crl(tmp_path / "c" / "crl.pem", (tmp_path / "ca" / "ca.pem").read_bytes())
    assert listed == {loaded(tmp_path / "a" / "cert.pem").serial_number}


def test_a_token_by_hand_speaks_of_its_user_with_its_certificate_alone(
    authority: Certs, tmp_path: Path
) -> None:
    authority("issue", "--ca", "ca", "--role", "device", "--name", "a", "--out", "a")

    code, token, _ = authority(
        "token", "--ca", "ca", "--user", "7", "--certificate", "a/cert.pem", "--minutes", "1"
    )

    thumbprint = loaded(tmp_path / "a" / "cert.pem").fingerprint(hashes.SHA256())
    now = datetime.now(UTC).timestamp()
    assert code == 0
    assert read_verifier(tmp_path / "ca", lambda: now).user(token.strip(), thumbprint) == 7


def test_a_certificate_never_outlives_its_authority() -> None:
    authority, key = new_authority(NOW), new_key().public_key()
    late = NOW + timedelta(days=3649)

    signed(authority, Request(Role.DEVICE, "a", days=1), key, late)
    with pytest.raises(BadSetting, match="2: from 1 to the end of the CA, 2039-12-30"):
        signed(authority, Request(Role.DEVICE, "a", days=2), key, late)


def test_a_failure_between_two_files_leaves_no_identity(
    authority: Certs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full_disk(path: Path, data: bytes) -> int:
        if path.name == "key.pem":
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    code, _, said = authority(*ISSUE, "--name", "a")

    assert (code, "new cannot be written: No space left" in said) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca"]
    assert folders.open_authority(tmp_path / "ca").pem
