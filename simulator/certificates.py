"""Certificates as Concerto wants them: X.509, EC P-256, the role as a URI. It touches no file."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared_models.contract.errors import BadSetting
from shared_models.contract.security import SCHEME, Role

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
"""Names of every server, so that it can be probed from its own machine."""
_AUTHORITY_DAYS: Final = 3650
_SKEW: Final = timedelta(minutes=5)
"""How far the clock of another machine may be behind."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
_DNS: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*")
_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_USES: Final[Mapping[Role, Sequence[x509.ObjectIdentifier]]] = {
    Role.CLOUD: (_SERVER, _CLIENT),
    Role.SIMULATOR: (_SERVER, _CLIENT),
    Role.DEVICE: (_CLIENT,),
}
"""A cloud is a client too: it probes its own health."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that can sign.

    Attributes:
        certificate: its own.
        key: signs.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> bytes:
        """What others know it by."""
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Request:
    """What a certificate is to say.

    Attributes:
        role: of the process.
        name: of the process.
        hosts: names and addresses that it serves at, beside those of its own machine.
        days: that it is good for.
    """

    role: Role
    name: str
    hosts: Sequence[str] = ()
    days: int = 365


def new_key() -> ec.EllipticCurvePrivateKey:
    """A private key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def new_authority(now: datetime) -> Authority:
    """A CA that begins to be one at ``now``."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Concerto CA")])
    certificate = (
        _certificate(name, name, key.public_key(), now, _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def signed(
    authority: Authority, request: Request, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.Certificate:
    """A certificate as ``request`` says, good from ``now`` on.

    Raises:
        BadSetting: the CA does not last that long, or a name or host makes no sense.
    """
    if not _NAME.fullmatch(request.name):
        raise BadSetting("name", f"{request.name!r}: write up to 48 of A-Z a-z 0-9 . _ -")
    ends = authority.certificate.not_valid_after_utc
    if request.days < 1 or now + timedelta(days=request.days) > ends:
        raise BadSetting("days", f"{request.days}: from 1 to the end of the CA, {ends:%Y-%m-%d}")
    own = f"{request.role} {request.name}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, own)])
    issuer = authority.certificate.subject
    return (
        _certificate(subject, issuer, key, now, request.days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_USES[request.role]), critical=True)
        .add_extension(x509.SubjectAlternativeName(_names(request)), critical=False)
        .add_extension(_identifier(authority), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def revocation_list(authority: Authority, serials: Sequence[int], now: datetime) -> bytes:
    """PEM of the list (CRL) that takes back what has these serial numbers."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now)
        .next_update(authority.certificate.not_valid_after_utc)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _names(request: Request) -> list[x509.GeneralName]:
    serves = _SERVER in _USES[request.role]
    if request.hosts and not serves:
        raise BadSetting("host", f"a {request.role} serves nobody: it has no --host")
    hosts = dict.fromkeys((*request.hosts, *LOOPBACK)) if serves else ()
    uri = x509.UniformResourceIdentifier(f"{SCHEME}{request.role}/{request.name}")
    return [uri, *map(_host, hosts)]


def _host(text: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ip_address(text))
    if not _DNS.fullmatch(text):
        raise BadSetting("host", f"{text!r} is neither a DNS name nor an address")
    return x509.DNSName(text)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _identifier(authority: Authority) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
