"""Which certificates a CA has taken back: a CRL file that is read again whenever it changes."""

import logging
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from shared_models.contract.errors import BadSetting, ConcertoError, PathMissing

REVOKED: Final = "crl.pem"
_log = logging.getLogger(__name__)


class Revocations:
    """The serial numbers in a CRL file.

    Args:
        path: of the file.
        authority: PEM certificate of the CA that must have signed it.

    Raises:
        PathMissing: there is no such file.
        BadSetting: it is no CRL of this CA.
    """

    def __init__(self, path: Path, authority: bytes) -> None:
        self._path, self._authority = path, authority
        self._seen = self._failed = self._stamp()
        self._serials = read_crl(path, authority)

    def __contains__(self, serial: int) -> bool:
        return serial in self._serials

    def look(self) -> bool:
        """Read the file if it has changed, and say whether it has.

        What cannot be read, or is no CRL of this CA, changes nothing: what was revoked stays so.
        It is tried again at every look: a file may first be put there and then be made readable.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        try:
            self._serials = read_crl(self._path, self._authority)
        except ConcertoError as error:
            if stamp != self._failed:
                _log.error("revocations stay as they were: %s", error)
            self._failed = stamp
            return False
        self._seen = stamp
        return True

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def read_crl(path: Path, authority: bytes) -> frozenset[int]:
    """The serial numbers that the CRL at ``path`` revokes.

    Raises:
        PathMissing: there is no such file.
        BadSetting: it is no CRL in PEM, or ``authority`` did not sign it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PathMissing(path, "list of revoked certificates") from error
    try:
        crl = x509.load_pem_x509_crl(data)
    except ValueError as error:
        raise BadSetting("identity", f"{path} is no list of revoked certificates (PEM)") from error
    key = x509.load_pem_x509_certificate(authority).public_key()
    if not isinstance(key, EllipticCurvePublicKey) or not crl.is_signature_valid(key):
        raise BadSetting("identity", f"{path} was not signed by the CA of this identity")
    return frozenset(entry.serial_number for entry in crl)


def serial_of(certificate: bytes) -> int:
    """The serial number of a certificate in DER."""
    return x509.load_der_x509_certificate(certificate).serial_number
