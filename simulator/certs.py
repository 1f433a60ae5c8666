"""A certificate authority of one's own, in a folder: issues identities and takes them back.

The folder holds ``ca.pem`` and ``ca.key.pem``, ``crl.pem``, the keys of tokens, and in ``issued/``
every certificate that was ever signed. Whatever is written is written whole or not at all.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from filelock import FileLock

from shared_models.contract.errors import BadSetting, PathMissing, UnknownName
from shared_models.contract.security import AUTHORITY, CERTIFICATE, KEY, Role
from shared_models.identity.revocations import REVOKED, read_crl
from shared_models.identity.tokens import SIGNING_KEY, VERIFYING_KEY
from simulator.certificates import (
    Authority,
    Request,
    new_authority,
    new_key,
    revocation_list,
    signed,
)

AUTHORITY_KEY: Final = "ca.key.pem"
_ISSUED: Final = "issued"
_SECRET: Final = (AUTHORITY_KEY, KEY, SIGNING_KEY)
_ALSO: Final[Mapping[Role, Sequence[str]]] = {
    Role.CLOUD: (REVOKED, VERIFYING_KEY),
    Role.SIMULATOR: (REVOKED, VERIFYING_KEY, SIGNING_KEY),
    Role.DEVICE: (),
}
"""What an identity holds of the CA's folder beside its certificate."""


def establish(folder: Path, now: datetime) -> None:
    """Make a CA in ``folder``.

    Raises:
        BadSetting: there is something in it already, or it cannot be written.
    """
    authority, tokens = new_authority(now), ed25519.Ed25519PrivateKey.generate()
    public = tokens.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    files = {
        AUTHORITY: authority.pem,
        AUTHORITY_KEY: _pem(authority.key),
        SIGNING_KEY: _pem(tokens),
        VERIFYING_KEY: public,
        REVOKED: revocation_list(authority, (), now),
    }
    _lay_down("ca", folder, files)


def open_authority(folder: Path) -> Authority:
    """The CA in ``folder``.

    Raises:
        PathMissing: there is none.
        BadSetting: a file of it cannot be used.
    """
    paths = folder / AUTHORITY, folder / AUTHORITY_KEY
    for path in paths:
        if not path.is_file():
            raise PathMissing(path, "file of a CA: `concerto certs init` makes one")
    try:
        certificate = x509.load_pem_x509_certificate(paths[0].read_bytes())
        key = load_pem_private_key(paths[1].read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise BadSetting("ca", f"{folder} holds no CA: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise BadSetting("ca", f"{paths[1]} is not the key of {paths[0]}")
    return Authority(certificate, key)


def issue(folder: Path, request: Request, out: Path, now: datetime) -> None:
    """Have the CA in ``folder`` make an identity in ``out``.

    Raises:
        InputError: there is no CA, it cannot sign this, or there is something in ``out``.
    """
    authority, key = open_authority(folder), new_key()
    certificate = signed(authority, request, key.public_key(), now)
    files = {
        AUTHORITY: authority.pem,
        CERTIFICATE: certificate.public_bytes(Encoding.PEM),
        KEY: _pem(key),
    }
    for name in _ALSO[request.role]:
        files[name] = (folder / name).read_bytes()
    _require_empty("out", out)
    # First the record: what nobody could take back must never be anywhere.
    records = folder / _ISSUED
    records.mkdir(exist_ok=True)
    _replace(records / f"{request.name}.{certificate.serial_number:x}.pem", files[CERTIFICATE])
    _lay_down("out", out, files)


def revoke(folder: Path, name: str, publish: Sequence[Path], now: datetime) -> int:
    """Take back every certificate of ``name``; write the CRL anew, in the CA and at ``publish``.

    Returns:
        How many were good until now.

    Raises:
        UnknownName: nothing was ever issued to it.
        InputError: a file of ``publish`` is no CRL of this CA, so nothing was written.
    """
    authority = open_authority(folder)
    with FileLock(folder / ".lock"):
        records = list(_records(folder))
        serials = {serial for owner, serial in records if owner == name}
        if not serials:
            known = {owner for owner, _ in records}
            raise UnknownName("name of a certificate", name, known)
        revoked = read_crl(folder / REVOKED, authority.pem)
        for path in publish:
            read_crl(path, authority.pem)
        crl = revocation_list(authority, sorted(revoked | serials), now)
        for path in (folder / REVOKED, *publish):
            _replace(path, crl)
    return len(serials - revoked)


def _records(folder: Path) -> Iterator[tuple[str, int]]:
    """Name and serial number of all that was issued."""
    for path in (folder / _ISSUED).glob("*.pem"):
        name, _, serial = path.stem.rpartition(".")
        yield name, int(serial, 16)


def _require_empty(setting: str, folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadSetting(setting, f"there is something in {folder}: name a new folder")


def _lay_down(setting: str, folder: Path, files: Mapping[str, bytes]) -> None:
    """Make ``folder`` with all of ``files`` in it, at once."""
    _require_empty(setting, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=".") as place:
            made = Path(place, folder.name)
            made.mkdir(mode=0o700)
            for name, data in files.items():
                mode = 0o600 if name in _SECRET else 0o644
                (made / name).touch(mode)
                (made / name).write_bytes(data)
            made.rename(folder)
    except OSError as error:
        raise BadSetting(setting, f"{folder} cannot be written: {error.strerror}") from error


def _replace(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of what ``path`` holds; who reads it sees either, whole."""
    try:
        with TemporaryDirectory(dir=path.parent, prefix=".") as place:
            made = Path(place, path.name)
            made.write_bytes(data)
            made.rename(path)
    except OSError as error:
        raise BadSetting(str(path), f"cannot be written: {error.strerror}") from error


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
