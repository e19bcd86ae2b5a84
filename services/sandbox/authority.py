"""A synthetic test authority: its keys are drawn from words that stand here, so it proves nothing
in life. An instance of the sandbox trusts it; no other should."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from schemas.prescription import PrescriptionSheet, SignatureInput
from schemas.signing import signed_text

ROOT, HOSPITALS = "Synthetic test root, not for any real use", "Synthetic hospitals, test only"
DOCTOR, PHARMACIST = "D-110101-0001", "P-110101-0001"
BORN, ENDS = datetime(2020, 1, 1, tzinfo=UTC), datetime(2045, 1, 1, tzinfo=UTC)
_CA_USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
_LEAF_USAGE = x509.KeyUsage(True, True, False, False, False, False, False, False, False)


@dataclass(frozen=True)
class Holder:
    """Somebody with a key and the certificates above it, his own first."""

    key: Ed25519PrivateKey
    chain: tuple[x509.Certificate, ...]

    @property
    def certificates(self) -> tuple[str, ...]:
        """As a signature carries them."""
        ders = (cert.public_bytes(Encoding.DER) for cert in self.chain)
        return tuple(base64.b64encode(der).decode() for der in ders)


def signed(
    sheet: PrescriptionSheet,
    licence: str,
    at: datetime,
    birth_date: str,
    sex: str,
    holder: Holder | None = None,
) -> SignatureInput:
    """The signature of one person of the sandbox over a prescription."""
    who = holder or person(licence)
    text = signed_text(sheet, licence, at, birth_date, sex)
    return SignatureInput(
        signer=licence,
        algorithm="ed25519",
        value=base64.b64encode(who.key.sign(text)).decode(),
        signed_at=at,
        certificates=who.certificates,
    )


@cache
def person(licence: str, since: datetime = BORN, until: datetime = ENDS) -> Holder:
    """Whoever bears this licence, with a certificate for that time."""
    above, key = hospitals(), _key(f"person/{licence}/{since.isoformat()}/{until.isoformat()}")
    name = _name(f"Synthetic person {licence}", licence)
    cert = _certificate(name, key, above.chain[0].subject, above.key, since, until, authority=None)
    return Holder(key, (cert, *above.chain))


@cache
def hospitals() -> Holder:
    """The authority that certifies the hospitals' people."""
    key, above = _key("authority/hospitals"), root()
    return Holder(
        key,
        (_certificate(_name(HOSPITALS), key, _name(ROOT), above.key, BORN, ENDS, authority=0),),
    )


@cache
def root() -> Holder:
    """The anchor."""
    key = _key("authority/root")
    return Holder(key, (_certificate(_name(ROOT), key, _name(ROOT), key, BORN, ENDS, authority=1),))


def revoked_list(
    issuer: Holder, taken_back: Mapping[int, tuple[datetime, x509.ReasonFlags]] | None = None
) -> bytes:
    """What an authority has revoked, by serial number."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.chain[0].subject)
        .last_update(BORN)
        .next_update(ENDS)
    )
    for serial, (at, reason) in (taken_back or {}).items():
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
        entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, None).public_bytes(Encoding.PEM)


def register(rows: Sequence[Mapping[str, object]] | None = None) -> bytes:
    """The professionals that this place knows."""
    since = BORN.isoformat()
    rights = ("antibacterial_restricted", "antibacterial_non_restricted")
    known: Sequence[Mapping[str, object]] = rows or (
        {
            "licence": DOCTOR,
            "role": "prescriber",
            "since": since,
            "rights": [{"right": right, "since": since} for right in rights],
        },
        {"licence": PHARMACIST, "role": "pharmacist", "since": since},
    )
    return json.dumps({"professionals": known}, indent=1).encode() + b"\n"


def trust_files() -> dict[str, bytes]:
    """What an instance keeps in its folder `trust` to believe this authority."""
    lists = (revoked_list(issuer) for issuer in (root(), hospitals()))
    return {
        "anchors.pem": root().chain[0].public_bytes(Encoding.PEM),
        "revoked.pem": b"".join(lists),
        "register.json": register(),
    }


def _certificate(
    name: x509.Name,
    key: Ed25519PrivateKey,
    issuer: x509.Name,
    issuer_key: Ed25519PrivateKey,
    since: datetime,
    until: datetime,
    authority: int | None,
) -> x509.Certificate:
    """`authority` is how many authorities may stand below this one; None for a person."""
    serial = hashlib.sha256(name.public_bytes() + since.isoformat().encode()).digest()[:15]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(b"\x01" + serial))
        .not_valid_before(since)
        .not_valid_after(until - timedelta(seconds=1))
        .add_extension(x509.BasicConstraints(authority is not None, authority), critical=True)
        .add_extension(_LEAF_USAGE if authority is None else _CA_USAGE, critical=True)
        .sign(issuer_key, None)
    )


def _name(common: str, licence: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if licence:
        parts.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, licence))
    return x509.Name(parts)


def _key(words: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"yaoda/{words}".encode()).digest())
