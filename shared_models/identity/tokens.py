"""Tokens: short-lived proof that a session is a user's, of no use but with one certificate.

A JWT (RFC 7519) signed by an Ed25519 key: ``sub`` is the user, ``exp`` its end in seconds since
1970, and ``cnf.x5t#S256`` the SHA-256 of the certificate that it is bound to (RFC 8705, 3.1).
"""

import base64
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jwt
import jwt.types
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from shared_models.contract.errors import BadSetting, PathMissing, TokenRefused

SIGNING_KEY: Final = "tokens.key.pem"
VERIFYING_KEY: Final = "tokens.pub.pem"
LIFETIME_S: Final = 900.0
Clock = Callable[[], float]
"""Seconds since 1970."""
_ALGORITHM: Final = "EdDSA"
_LARGEST: Final = 768
"""Characters; JSON of this length cannot nest deeper than Python reads."""
_LARGEST_USER: Final = (1 << 32) - 1
_OPTIONS: Final[jwt.types.Options] = {"require": ["sub", "exp", "cnf"], "verify_exp": False}
"""That a token has ended is for our own clock to say."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Signs tokens.

    Attributes:
        key: signs them.
        clock: seconds since 1970.
        lifetime_s: seconds that a token is good for.
    """

    key: Ed25519PrivateKey = field(repr=False)
    clock: Clock
    lifetime_s: float = LIFETIME_S

    def token(self, user: int, thumbprint: bytes) -> str:
        """A token of ``user`` for whoever has the certificate with this SHA-256."""
        claims = {
            "sub": str(user),
            "exp": int(self.clock() + self.lifetime_s),
            "cnf": {"x5t#S256": _written(thumbprint)},
        }
        return jwt.encode(claims, self.key, _ALGORITHM)


@dataclass(frozen=True, slots=True)
class Verifier:
    """Believes the tokens of one issuer.

    Attributes:
        key: the issuer's public one.
        clock: seconds since 1970.
    """

    key: Ed25519PublicKey
    clock: Clock

    def user(self, token: str, thumbprint: bytes) -> int:
        """The user that ``token`` speaks of, shown by the certificate with this SHA-256.

        Raises:
            TokenRefused: there is none, another issuer made it, it has ended, or it is bound to
                another certificate.
        """
        if not token:
            raise TokenRefused("a hello needs a token of its user")
        if len(token) > _LARGEST:
            raise TokenRefused("the token is too long to be one")
        try:
            claims = jwt.decode(token, self.key, [_ALGORITHM], options=_OPTIONS)
        except jwt.InvalidTokenError as error:
            raise TokenRefused("the token is not of this cloud's issuer") from error
        return self._believed(claims, thumbprint)

    def _believed(self, claims: Mapping[str, Any], thumbprint: bytes) -> int:
        bound, ends, user = claims["cnf"], claims["exp"], claims["sub"]
        shown = bound.get("x5t#S256") if isinstance(bound, dict) else None
        if not isinstance(shown, str) or not hmac.compare_digest(
            shown.encode(), _written(thumbprint).encode()
        ):
            raise TokenRefused("the token is bound to another certificate")
        if not isinstance(ends, int) or self.clock() >= ends:
            raise TokenRefused("the token has expired: ask for a new one")
        if not (user.isascii() and user.isdecimal() and int(user) <= _LARGEST_USER):
            raise TokenRefused("the token names no user")
        return int(user)


def read_issuer(folder: Path, clock: Clock, lifetime_s: float = LIFETIME_S) -> Issuer:
    """The issuer whose key lies in ``folder``.

    Raises:
        PathMissing: there is none.
        BadSetting: it is no Ed25519 key.
    """
    path = folder / SIGNING_KEY
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:
        raise BadSetting("identity", f"{path} holds no private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadSetting("identity", f"{path} holds no Ed25519 key")
    return Issuer(key, clock, lifetime_s)


def read_verifier(folder: Path, clock: Clock) -> Verifier:
    """Who believes the issuer whose public key lies in ``folder``.

    Raises:
        PathMissing: there is none.
        BadSetting: it is no Ed25519 key.
    """
    path = folder / VERIFYING_KEY
    try:
        key = load_pem_public_key(_read(path))
    except ValueError as error:
        raise BadSetting("identity", f"{path} holds no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadSetting("identity", f"{path} holds no Ed25519 key")
    return Verifier(key, clock)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise PathMissing(path, "key of tokens: `concerto certs issue` leaves it there")
    return path.read_bytes()


def _written(thumbprint: bytes) -> str:
    return base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
