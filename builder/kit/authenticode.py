"""Authenticode: who signed a file for Windows, or a catalogue of files, checked down to a pinned certificate.

A signature is a PKCS #7 message about a hash. What is checked: that the hash is that of the file, that the message is
signed by the certificate it names, and that this certificate belongs to the publisher who is expected and was issued by
the authority that is pinned by SHA-256. Times are not looked at: certificates end, and the files themselves are pinned,
so that nothing signed later can come in their place.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from asn1crypto import cms, core, x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mkllm.builder.errors import WrongHash

FILE, LIST = "1.3.6.1.4.1.311.2.1.4", "1.3.6.1.4.1.311.10.1"  # what is signed: one file's hash, a list of hashes
CODE_SIGNING = "code_signing"
CERTIFICATES = 4  # index of the directory of signatures in a PE file
HASHES: dict[str, type[HashAlgorithm]] = {"sha256": SHA256, "sha384": SHA384, "sha512": SHA512}


@dataclass(frozen=True)
class Publisher:
    """`organization` as its certificates say; `issuers` are SHA-256 of the certificates that may have issued them."""

    organization: str
    issuers: frozenset[str]


class _Digest(core.Sequence):  # type: ignore[misc]
    _fields = [("algorithm", core.Sequence), ("digest", core.OctetString)]


class _Indirect(core.Sequence):  # type: ignore[misc]
    _fields = [("data", core.Any), ("digest", _Digest)]


class _Subject(core.Sequence):  # type: ignore[misc]
    _fields = [("identifier", core.OctetString), ("attributes", core.Any, {"optional": True})]


class _Subjects(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Subject


class _Usage(core.SequenceOf):  # type: ignore[misc]
    _child_spec = core.ObjectIdentifier


class _List(core.Sequence):  # type: ignore[misc]
    _fields = [
        ("usage", _Usage),
        ("identifier", core.OctetString, {"optional": True}),
        ("made", core.UTCTime),
        ("algorithm", core.Sequence),
        ("subjects", _Subjects),
        ("extensions", core.Any, {"optional": True}),
    ]


def check_program(name: str, data: bytes, publishers: Sequence[Publisher]) -> None:
    """Raise WrongHash unless the PE file is signed by one of these publishers and is as it was then."""
    try:
        start, covered = _covered(data)
        message = _signed(data[start:], FILE)
        _check(message, publishers)
        stated = message["encap_content_info"]["content"].parse(_Indirect)["digest"]
        if stated["digest"].native != covered:
            raise ValueError("it is not what was signed")
    except (ValueError, TypeError, KeyError, struct.error) as error:
        raise _refused(name, error) from None


def catalogued(name: str, data: bytes, publishers: Sequence[Publisher]) -> frozenset[bytes]:
    """The SHA-256 that a catalogue lists. Raises WrongHash unless it is signed by one of these publishers."""
    try:
        message = _signed(data, LIST)
        _check(message, publishers)
        subjects = message["encap_content_info"]["content"].parse(_List)["subjects"]
        return frozenset(
            subject["identifier"].native for subject in subjects if len(subject["identifier"].native) == 32
        )
    except (ValueError, TypeError, KeyError) as error:
        raise _refused(name, error) from None


def _refused(name: str, error: Exception) -> WrongHash:
    why = error.args[0] if isinstance(error, ValueError) and error.args else "its signature is damaged"
    return WrongHash(
        f"{name!r} does not carry the signature that it should ({str(why).splitlines()[0]}): remove the source from "
        "the cache, and get it from another index (PIP_INDEX_URL)"
    )


def _covered(data: bytes) -> tuple[int, bytes]:
    """Where the signature begins, and the SHA-256 of what it covers: all but itself, the checksum and its own place."""
    if data[:2] != b"MZ":
        raise ValueError("it is no program for Windows")
    header = struct.unpack_from("<I", data, 0x3C)[0]
    if data[header : header + 4] != b"PE\0\0" or struct.unpack_from("<H", data, header + 24)[0] != 0x20B:
        raise ValueError("it is no 64-bit program for Windows")
    checksum, entry = header + 24 + 64, header + 24 + 112 + 8 * CERTIFICATES
    begin, size = struct.unpack_from("<II", data, entry)
    if not begin or begin + size != len(data):
        raise ValueError("it is not signed")
    covered = data[:checksum] + data[checksum + 4 : entry] + data[entry + 8 : begin]
    return begin + 8, hashlib.sha256(covered).digest()


def _signed(data: bytes, kind: str) -> cms.SignedData:
    info = cms.ContentInfo.load(data)
    if info["content_type"].native != "signed_data":
        raise ValueError("there is no signature in it")
    message = info["content"]
    if message["encap_content_info"]["content_type"].dotted != kind or len(message["signer_infos"]) != 1:
        raise ValueError("its signature is of another kind")
    return message


def _check(message: cms.SignedData, publishers: Sequence[Publisher]) -> None:
    """The message is signed by a certificate of one of these publishers; raises ValueError."""
    signer = message["signer_infos"][0]
    certificates = [choice.chosen for choice in message["certificates"]]
    certificate = _named(signer, certificates)
    _check_publisher(certificate, certificates, publishers)
    _check_content(message, signer)
    attributes = b"\x31" + signer["signed_attrs"].dump()[1:]  # signed as the set that they are
    _verify(certificate, signer["signature"].native, attributes, signer["digest_algorithm"]["algorithm"].native)


def _named(signer: cms.SignerInfo, certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    sid = signer["sid"].chosen
    for certificate in certificates:
        if certificate.issuer == sid["issuer"] and certificate.serial_number == sid["serial_number"].native:
            return certificate
    raise ValueError("the certificate of its signer is missing")


def _check_publisher(
    certificate: x509.Certificate, certificates: Sequence[x509.Certificate], publishers: Sequence[Publisher]
) -> None:
    organization = certificate.subject.native.get("organization_name")
    publisher = next((one for one in publishers if one.organization == organization), None)
    usage = certificate.extended_key_usage_value
    if publisher is None or usage is None or CODE_SIGNING not in usage.native:
        raise ValueError(f"it is signed by {organization!r}")
    issuers = [
        one for one in certificates if one.sha256.hex() in publisher.issuers and one.subject == certificate.issuer
    ]
    if not issuers:
        raise ValueError(f"the certificate of {organization!r} is from {certificate.issuer.human_friendly!r}")
    _verify(issuers[0], certificate.signature, certificate["tbs_certificate"].dump(), certificate.hash_algo)


def _check_content(message: cms.SignedData, signer: cms.SignerInfo) -> None:
    content, name = message["encap_content_info"], signer["digest_algorithm"]["algorithm"].native
    said = {attribute["type"].native: attribute["values"] for attribute in signer["signed_attrs"]}
    kind, digest = said["content_type"][0].dotted, said["message_digest"][0].native
    # Signed is the content without its own tag and length.
    if kind != content["content_type"].dotted or digest != hashlib.new(name, content["content"].contents).digest():
        raise ValueError("it is not what was signed")


def _verify(certificate: x509.Certificate, signature: bytes, data: bytes, algorithm: str) -> None:
    key = load_der_public_key(certificate.public_key.dump())
    if not isinstance(key, RSAPublicKey) or algorithm not in HASHES:
        raise ValueError("its signature is of another kind")
    try:
        key.verify(signature, data, padding.PKCS1v15(), HASHES[algorithm]())
    except InvalidSignature:
        raise ValueError("its signature is not its signer's") from None
