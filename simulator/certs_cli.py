"""concerto certs: identities for processes that talk over a network."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from shared_models.contract.errors import BadSetting, PathMissing
from shared_models.contract.security import Role
from shared_models.identity.tokens import read_issuer
from simulator.certificates import Request
from simulator.certs import establish, issue, revoke
from simulator.options import console

certs = typer.Typer(help=__doc__, no_args_is_help=True)

Authority = Annotated[Path, typer.Option("--ca", help="Folder of the certificate authority.")]
Name = Annotated[str, typer.Option("--name", help="Which process, such as phone-7.")]
_MINUTES: Final = 15


@certs.command("init")
def init(ca: Authority) -> None:
    """Make a certificate authority, and the key that signs tokens. Keep its folder to yourself."""
    establish(ca, _now())
    _say(f"certificate authority: {ca}")
    _say(f"next: concerto certs issue --ca {ca} --role cloud --name cloud --host DNS --out DIR")


@certs.command("issue")
def issue_identity(
    ca: Authority,
    role: Annotated[Role, typer.Option(help="What the process is, and so what it may do.")],
    name: Name,
    out: Annotated[Path, typer.Option(help="Folder for the identity; new or empty.")],
    host: Annotated[
        list[str] | None,
        typer.Option(help="DNS name or address that others dial; may be repeated."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="That it is good for.")] = 365,
) -> None:
    """Make the identity of a process: certificate, key and CA."""
    issue(ca, Request(role, name, tuple(host or ()), days), out, _now())
    _say(f"identity of {role} {name}, good for {days} days: {out}")
    _say(f"next: start that process with --identity {out}")


@certs.command("revoke")
def revoke_name(
    ca: Authority,
    name: Name,
    publish: Annotated[
        list[Path] | None,
        typer.Option(help="crl.pem of a running cloud or simulator; may be repeated."),
    ] = None,
) -> None:
    """Take back every certificate of a name; who reads the list turns it out within seconds."""
    count = revoke(ca, name, publish or (), _now())
    certificates = "1 certificate" if count == 1 else f"{count} certificates"
    _say(f"revoked: {certificates} of {name}" if count else f"{name} was revoked before")
    if not publish:
        _say(f"next: put {ca / 'crl.pem'} in the place of crl.pem of every cloud and simulator")


@certs.command("token")
def token(
    ca: Authority,
    user: Annotated[int, typer.Option(min=0, max=(1 << 32) - 1, help="Whom it speaks for.")],
    certificate: Annotated[Path, typer.Option(help="cert.pem of the device that will show it.")],
    minutes: Annotated[int, typer.Option(min=1, help="That it is good for.")] = _MINUTES,
) -> None:
    """Print a token that lets one device open sessions of one user."""
    if not certificate.is_file():
        raise PathMissing(certificate, "certificate")
    try:
        shown = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError as error:
        raise BadSetting("certificate", f"{certificate} holds no certificate in PEM") from error
    issuer = read_issuer(ca, lambda: _now().timestamp(), minutes * 60)
    print(issuer.token(user, shown.fingerprint(hashes.SHA256())))


def _now() -> datetime:
    return datetime.now(UTC)


def _say(line: str) -> None:
    console().print(line, soft_wrap=True, highlight=False)
