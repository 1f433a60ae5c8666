"""Tokens: whom they speak of, until when, and in whose hands."""

import base64
import json
from pathlib import Path

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_models.contract.errors import BadSetting, PathMissing, TokenRefused
from shared_models.identity.tokens import Issuer, Verifier, read_issuer, read_verifier
from tests.identities import Visitors

THUMBPRINT, OTHER = bytes(range(32)), bytes(32)
NOW = 1_800_000_000.0


@pytest.fixture
def issuer(visitors: Visitors) -> Issuer:
    return read_issuer(visitors.authority.ca, lambda: NOW)


def verifier(visitors: Visitors, now: float = NOW) -> Verifier:
    return read_verifier(visitors.authority.ca, lambda: now)


@given(user=st.integers(0, (1 << 32) - 1))
def test_a_token_speaks_of_its_user_to_who_knows_the_issuer(visitors: Visitors, user: int) -> None:
    token = read_issuer(visitors.authority.ca, lambda: NOW).token(user, THUMBPRINT)

    assert verifier(visitors).user(token, THUMBPRINT) == user


def test_a_token_holds_what_the_standards_name(issuer: Issuer) -> None:
    token = issuer.token(7, THUMBPRINT)

    claims = jwt.decode(token, options={"verify_signature": False})
    thumbprint = base64.urlsafe_b64encode(THUMBPRINT).decode().rstrip("=")
    assert claims == {"sub": "7", "exp": int(NOW) + 900, "cnf": {"x5t#S256": thumbprint}}
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "typ": "JWT"}


def test_a_token_ends(visitors: Visitors, issuer: Issuer) -> None:
    token = issuer.token(7, THUMBPRINT)

    assert verifier(visitors, NOW + 899).user(token, THUMBPRINT) == 7
    with pytest.raises(TokenRefused, match="expired"):
        verifier(visitors, NOW + 900).user(token, THUMBPRINT)


def test_a_token_is_of_no_use_with_another_certificate(visitors: Visitors, issuer: Issuer) -> None:
    with pytest.raises(TokenRefused, match="bound to another certificate"):
        verifier(visitors).user(issuer.token(7, THUMBPRINT), OTHER)


def test_a_foreign_token_is_refused(visitors: Visitors) -> None:
    foreign = read_issuer(visitors.foreign.ca, lambda: NOW).token(7, THUMBPRINT)

    with pytest.raises(TokenRefused, match="not of this cloud's issuer"):
        verifier(visitors).user(foreign, THUMBPRINT)


def test_no_token_is_told_from_a_bad_one(visitors: Visitors) -> None:
    with pytest.raises(TokenRefused, match="needs a token"):
        verifier(visitors).user("", THUMBPRINT)


def test_a_token_that_signs_itself_is_refused(visitors: Visitors) -> None:
    claims = {"sub": "7", "exp": NOW + 900, "cnf": {"x5t#S256": "AA"}}
    public = (visitors.authority.ca / "tokens.pub.pem").read_bytes()
    forged = jwt.encode(claims, None, "none")
    header, payload, _ = jwt.encode(claims, "x" * 32, "HS256").split(".")
    confused = jwt.PyJWS().encode(payload.encode(), b"k" * 32, "HS256")

    for token in (forged, confused, f"{header}.{payload}.{base64.b64encode(public).decode()}"):
        with pytest.raises(TokenRefused):
            verifier(visitors).user(token, THUMBPRINT)


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "7", "exp": NOW + 9},
        {"sub": "7", "cnf": {}},
        {"exp": NOW + 9, "cnf": {}},
        {"sub": 7, "exp": NOW + 9, "cnf": {}},
        {"sub": "7", "exp": NOW + 9, "cnf": "text"},
        {"sub": "7", "exp": NOW + 9, "cnf": {"x5t#S256": 3}},
        {"sub": "7", "exp": "soon", "cnf": {"x5t#S256": None}},
        {"sub": "-1", "exp": int(NOW) + 9, "cnf": {"x5t#S256": None}},
        {"sub": "\u0667", "exp": int(NOW) + 9, "cnf": {"x5t#S256": None}},
        {"sub": str(1 << 32), "exp": int(NOW) + 9, "cnf": {"x5t#S256": None}},
    ],
    ids=json.dumps,
)
def test_even_a_signed_token_must_make_sense(
    visitors: Visitors, issuer: Issuer, claims: dict[str, object]
) -> None:
    bound = base64.urlsafe_b64encode(THUMBPRINT).decode().rstrip("=")
    if claims.get("cnf") == {"x5t#S256": None}:
        claims = {**claims, "cnf": {"x5t#S256": bound}}

    with pytest.raises(TokenRefused):
        verifier(visitors).user(jwt.encode(claims, issuer.key, "EdDSA"), THUMBPRINT)


@given(text=st.text(max_size=900) | st.from_regex(r"[\w-]+\.[\w-]+\.[\w-]+", fullmatch=True))
def test_whatever_comes_as_a_token_is_refused_and_breaks_nothing(
    visitors: Visitors, text: str
) -> None:
    with pytest.raises(TokenRefused):
        verifier(visitors).user(text, THUMBPRINT)


def test_a_header_that_nests_as_deep_as_it_can_is_refused(visitors: Visitors) -> None:
    def nested(depth: int) -> str:
        return base64.urlsafe_b64encode(b"[" * depth).decode().rstrip("=") + ".e30.AA"

    for depth in (500, 570, 5000):
        with pytest.raises(TokenRefused):
            verifier(visitors).user(nested(depth), THUMBPRINT)


def test_a_missing_or_spoilt_key_is_named(tmp_path: Path, visitors: Visitors) -> None:
    with pytest.raises(PathMissing, match=r"tokens\.key\.pem"):
        read_issuer(tmp_path, lambda: NOW)
    with pytest.raises(PathMissing, match=r"tokens\.pub\.pem"):
        read_verifier(tmp_path, lambda: NOW)
    for name in ("tokens.key.pem", "tokens.pub.pem"):
        (tmp_path / name).write_bytes((visitors.authority.ca / "ca.key.pem").read_bytes())
    with pytest.raises(BadSetting, match=r"tokens\.key\.pem holds no Ed25519 key"):
        read_issuer(tmp_path, lambda: NOW)
    with pytest.raises(BadSetting, match=r"tokens\.pub\.pem holds no public key"):
        read_verifier(tmp_path, lambda: NOW)
