"""Whose signatures count here: authorities, what they revoked, and the register of professionals.

An instance's folder `trust` has `anchors.pem`, `revoked.pem` and `register.json`, or `profile`
that names another way to prove signatures, of an installed package. Without it nobody looks
at chains, and the rules say so.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from schemas.prescription import ClinicalOrder, PrescriptionSheet, Signature
from schemas.review import DecideCase, EscalateCase
from schemas.signing import acted_text, signed_text
from services.kit import telemetry
from services.kit.flaws import first_flaw
from services.review.rules.case import UNPROVED, Proof, Proofs

log = telemetry.logger(__name__)
T = TypeVar("T")
Seen = tuple[tuple[str, int, int], ...]
FOLDER, ANCHORS, REVOKED, REGISTER = "trust", "anchors.pem", "revoked.pem", "register.json"
# Other profiles: entry points of this group, called with the folder; the file names one of them.
PROFILES, CHOSEN, OURS = "yaoda.signatures", "profile", "x509"
CHAIN_MAX = 4
_CHAINS_MAX = 5_000
PRESCRIBER, PHARMACIST = "prescriber", "pharmacist"


class TrustError(ValueError):
    """A folder that cannot be read, with the file; nothing of it is taken."""


class Profile(Protocol):
    """How signatures are proved in one place."""

    def prove(self, signature: Signature, text: bytes, role: str, now: datetime) -> Proof:
        """What can be said of one signature over a text."""
        ...


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(_Entry):
    """From a moment until another, which is outside."""

    since: AwareDatetime
    until: AwareDatetime | None = None

    def covers(self, at: datetime) -> bool:
        """Whether it lasted at a moment."""
        return self.since <= at and (self.until is None or at < self.until)


class Right(Span):
    """A right of prescribing, such as `narcotic` or `antibacterial_restricted`."""

    right: str


class Professional(Span):
    """One licence; `suspended` are times in which it did not count."""

    licence: str
    role: str
    suspended: tuple[Span, ...] = ()
    rights: tuple[Right, ...] = ()


class Register(_Entry):
    """All professionals that a place knows."""

    professionals: tuple[Professional, ...]


class _Bad(Exception):
    """Why a chain proves nothing; the code stands in findings."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Link(NamedTuple):
    cert: x509.Certificate
    issuer: x509.Certificate
    crl: x509.CertificateRevocationList | None


class _Chain(NamedTuple):
    key: Ed25519PublicKey
    signer: str
    links: tuple[_Link, ...]


@dataclass
class X509Profile:
    """Ed25519 signatures under X.509 chains; the licence is the subject's serial number."""

    anchors: Mapping[bytes, x509.Certificate]
    crls: Mapping[bytes, x509.CertificateRevocationList]
    register: Mapping[str, Professional]
    _chains: dict[tuple[str, ...], _Chain | str] = field(default_factory=dict)

    def prove(self, signature: Signature, text: bytes, role: str, now: datetime) -> Proof:
        """Chain, text and person for the moment of signing; then licence and rights."""
        licensed, licence_flaw, rights = self._licence(signature, role)
        try:
            self._check(signature, text, now)
        except _Bad as bad:
            genuine = None if bad.code in _UNPROVED else False
            return Proof(genuine, bad.code, licensed, licence_flaw, rights)
        return Proof(True, "", licensed, licence_flaw, rights)

    def _check(self, signature: Signature, text: bytes, now: datetime) -> None:
        if signature.algorithm != "ed25519":
            raise _Bad("algorithm_not_offered")
        if not signature.certificates:
            raise _Bad("certificate_missing")
        chain = self._chain(signature.certificates)
        if isinstance(chain, str):
            raise _Bad(chain)
        if chain.signer != signature.signer:
            raise _Bad("another_person")
        try:
            chain.key.verify(base64.b64decode(signature.value, validate=True), text)
        except (InvalidSignature, binascii.Error, ValueError):
            raise _Bad("signature_broken") from None
        for link in chain.links:
            _in_time(link, signature.signed_at, now)

    def _chain(self, certificates: tuple[str, ...]) -> _Chain | str:
        found = self._chains.get(certificates)
        if found is None:
            try:
                found = self._built(certificates)
            except _Bad as bad:
                found = bad.code
            if len(self._chains) >= _CHAINS_MAX:
                self._chains.clear()
            self._chains[certificates] = found
        return found

    def _built(self, certificates: tuple[str, ...]) -> _Chain:
        certs = [_certificate(text) for text in certificates[:CHAIN_MAX]]
        anchor = self.anchors.get(certs[-1].issuer.public_bytes())
        if anchor is None:
            raise _Bad("chain_untrusted")
        issuers = [*certs[1:], anchor]
        for depth, (cert, issuer) in enumerate(zip(certs, issuers, strict=True)):
            _issued(cert, issuer, depth)
        links = (
            _Link(cert, issuer, self._crl_of(issuer))
            for cert, issuer in zip(certs, issuers, strict=True)
        )
        leaf = certs[0]
        key = leaf.public_key()
        if not isinstance(key, Ed25519PublicKey) or not _may_sign(leaf):
            raise _Bad("certificate_not_for_signing")
        serials = leaf.subject.get_attributes_for_oid(x509.NameOID.SERIAL_NUMBER)
        signer = str(serials[0].value) if len(serials) == 1 else ""
        return _Chain(key, signer, tuple(links))

    def _crl_of(self, issuer: x509.Certificate) -> x509.CertificateRevocationList | None:
        crl = self.crls.get(issuer.subject.public_bytes())
        key = issuer.public_key()
        if crl is None or not isinstance(key, Ed25519PublicKey) or not crl.is_signature_valid(key):
            return None
        return crl

    def _licence(self, signature: Signature, role: str) -> tuple[bool, str, frozenset[str]]:
        at, found = signature.signed_at, self.register.get(signature.signer)
        if found is None:
            return False, "licence_unknown", frozenset()
        if found.role != role:
            return False, "licence_of_another_profession", frozenset()
        if at < found.since:
            return False, "licence_not_yet_valid", frozenset()
        if not found.covers(at):
            return False, "licence_expired", frozenset()
        if any(span.covers(at) for span in found.suspended):
            return False, "licence_suspended", frozenset()
        return True, "", frozenset(right.right for right in found.rights if right.covers(at))


# What says nothing against a signature, but nothing for it either.
_UNPROVED = frozenset({"algorithm_not_offered", "certificate_missing", "revocation_unknown"})


def _certificate(text: str) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        raise _Bad("certificate_unreadable") from None


def _issued(cert: x509.Certificate, issuer: x509.Certificate, depth: int) -> None:
    """`depth` is how many authorities stand between the issuer and the signer."""
    try:
        cert.verify_directly_issued_by(issuer)
        basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        raise _Bad("chain_untrusted") from None
    if not (basic.ca and usage.key_cert_sign):
        raise _Bad("chain_untrusted")
    if basic.path_length is not None and depth > basic.path_length:
        raise _Bad("chain_untrusted")


def _may_sign(leaf: x509.Certificate) -> bool:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    return (usage.digital_signature or usage.content_commitment) and not basic.ca


def _in_time(link: _Link, at: datetime, now: datetime) -> None:
    for cert in (link.cert, link.issuer):
        if at < cert.not_valid_before_utc:
            raise _Bad("certificate_not_yet_valid")
        if at > cert.not_valid_after_utc:
            raise _Bad("certificate_expired")
    crl = link.crl
    if crl is None or (crl.next_update_utc is not None and now > crl.next_update_utc):
        raise _Bad("revocation_unknown")
    entry = crl.get_revoked_certificate_by_serial_number(link.cert.serial_number)
    if entry is not None and (entry.revocation_date_utc <= at or _stolen(entry)):
        raise _Bad("certificate_revoked")


def _stolen(entry: x509.RevokedCertificate) -> bool:
    """With a stolen key anybody signs for any earlier moment."""
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return True
    return reason in (x509.ReasonFlags.key_compromise, x509.ReasonFlags.ca_compromise)


class _Unreadable:
    """Stands where a folder is wrong from the start: nothing is proved."""

    def prove(self, signature: Signature, text: bytes, role: str, now: datetime) -> Proof:
        """Nothing."""
        return Proof(None, "trust_unreadable")


UNREADABLE: Profile = _Unreadable()
_STANDING: list[Profile] = []


def standing() -> Profile | None:
    """The profile in force in this process; None where nobody looks at signatures."""
    return _STANDING[-1] if _STANDING else None


def stand(profile: Profile | None) -> None:
    """From the next prescription on this holds."""
    _STANDING[:] = [] if profile is None else [profile]


def read(folder: Path) -> Profile:
    """The profile of a folder. Raises TrustError with the file that is wrong."""
    chosen = folder / CHOSEN
    if not chosen.is_file():
        return x509_profile(folder)
    (name,) = _loaded(chosen, lambda data: [data.decode().strip()])
    if name == OURS:
        return x509_profile(folder)
    offered = {entry.name: entry for entry in entry_points(group=PROFILES)}
    if name not in offered:
        known = ", ".join(sorted({OURS, *offered}))
        raise TrustError(f"{CHOSEN}: no profile {name!r} is installed; there is {known}")
    try:
        made: Profile = offered[name].load()(folder)
    except Exception as error:
        # Nobody here knows what another package may raise; whoever looks must go on looking.
        raise TrustError(f"{CHOSEN}: {name}: {type(error).__name__}: {error}") from error
    return made


def x509_profile(folder: Path) -> X509Profile:
    """Ours. Raises TrustError with the file that is wrong."""
    return X509Profile(
        {cert.subject.public_bytes(): cert for cert in _loaded(folder / ANCHORS, _anchors)},
        {crl.issuer.public_bytes(): crl for crl in _loaded(folder / REVOKED, _crls)},
        {found.licence: found for found in _loaded(folder / REGISTER, _professionals)},
    )


def seen_of(files: Iterable[Path]) -> Seen:
    """What tells that a file changed, came or went; one that goes meanwhile is none."""
    found = []
    for file in sorted(files):
        with suppress(OSError):
            state = file.stat()
            found.append((file.as_posix(), state.st_mtime_ns, state.st_size))
    return tuple(found)


class TrustWatch:
    """The folder of an instance; read anew, as a whole, when one of its files changes."""

    changed, wrong = "trust_changed", "trust_refused"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: Seen | None = None
        self.refused = ""

    def look(self) -> bool:
        """True when another profile stands now. A wrong folder changes nothing, but where nothing
        stood before it proves nothing; `refused` says why."""
        seen = seen_of(self._folder.glob("*"))
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            stand(read(self._folder) if seen else None)
        except TrustError as error:
            self.refused = str(error)
            if standing() is None:
                stand(UNREADABLE)
            return False
        self.refused = ""
        return bool(seen)

    @property
    def version(self) -> str:
        """What stands, for the log."""
        profile = standing()
        if isinstance(profile, X509Profile):
            return f"{len(profile.anchors)} anchors"
        return "none" if profile is None else type(profile).__name__


def _loaded(path: Path, load: Callable[[bytes], Sequence[T]]) -> Sequence[T]:
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise TrustError(f"{path.name}: {error.strerror}") from None
    except ValidationError as error:
        where, said = first_flaw(error)
        raise TrustError(f"{path.name}: {where}: {said}") from None
    except ValueError as error:
        raise TrustError(f"{path.name}: {error}") from None


def _anchors(data: bytes) -> Sequence[x509.Certificate]:
    return x509.load_pem_x509_certificates(data)


def _crls(data: bytes) -> Sequence[x509.CertificateRevocationList]:
    end = b"-----END X509 CRL-----"
    parts = [part + end for part in data.split(end)[:-1]]
    return [x509.load_pem_x509_crl(part.lstrip()) for part in parts]


def _professionals(data: bytes) -> Sequence[Professional]:
    return Register.model_validate_json(data).professionals


def proofs_of(
    profile: Profile, clinical: ClinicalOrder, sheets: Iterable[PrescriptionSheet], now: datetime
) -> dict[UUID, Proofs]:
    """What is proved of the signatures of these prescriptions."""

    def proof(sheet: PrescriptionSheet, signature: Signature, role: str) -> Proof:
        person = clinical.patient
        text = signed_text(
            sheet, signature.signer, signature.signed_at, person.birth_date, person.sex
        )
        return _asked(profile, signature, text, role, now)

    return {
        sheet.prescription_id: Proofs(
            proof(sheet, sheet.prescriber, PRESCRIBER),
            proof(sheet, sheet.pharmacist, PHARMACIST) if sheet.pharmacist else None,
        )
        for sheet in sheets
    }


def proof_of_act(profile: Profile, command: DecideCase | EscalateCase, now: datetime) -> Proof:
    """What is proved of a pharmacist's signature over his act."""
    signature = command.signature
    if signature is None:
        return UNPROVED
    text = acted_text(command, signature.signed_at)
    return _asked(profile, signature, text, PHARMACIST, now)


def _asked(profile: Profile, signature: Signature, text: bytes, role: str, now: datetime) -> Proof:
    """A profile of another package that breaks on a signature has proved nothing of it."""
    try:
        return profile.prove(signature, text, role, now)
    except Exception as error:
        log.error("profile_failed", kind=type(profile).__name__, error=error)
        return Proof(None, "profile_failed")
