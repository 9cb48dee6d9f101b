"""Small programs for Windows, and signatures of them, made for tests."""

import datetime
import hashlib
import struct
from dataclasses import dataclass

from asn1crypto import algos, cms, core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mkllm.builder.kit.authenticode import FILE, LIST, Publisher

HEADER = 0x80
OPTIONAL = 112 + 16 * 8
SECTION, IMPORTS = 0x400, 0x1000


def program(libraries: list[str], *, system: tuple[int, int] = (10, 0), is_library: bool = False) -> bytes:
    """A PE file that needs these libraries, and has one section."""
    names = b"".join(name.encode() + b"\0" for name in libraries)
    table_size = 20 * (len(libraries) + 1)
    table, at = b"", IMPORTS + table_size
    for name in libraries:
        table += struct.pack("<IIIII", 0, 0, 0, at, 0)
        at += len(name) + 1
    content = (table + bytes(20) + names).ljust(0x200, b"\0")
    optional = bytearray(OPTIONAL)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<II", optional, 32, 0x1000, 0x200)
    struct.pack_into("<HH", optional, 48, *system)
    struct.pack_into("<II", optional, 56, 0x2000, SECTION)
    struct.pack_into("<I", optional, 108, 16)
    if libraries:
        struct.pack_into("<II", optional, 112 + 8, IMPORTS, table_size)
    flags = 0x2022 if is_library else 0x22
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, OPTIONAL, flags)
    section = struct.pack("<8sIIIIIIHHI", b".rdata", 0x200, IMPORTS, 0x200, SECTION, 0, 0, 0, 0, 0x40000040)
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", HEADER)
    return (dos.ljust(HEADER, b"\0") + coff + bytes(optional) + section).ljust(SECTION, b"\0") + content


@dataclass(frozen=True)
class Signer:
    """Somebody with a certificate, and who issued it."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate
    issuer: x509.Certificate

    @property
    def publisher(self) -> Publisher:
        """As which this signer is known."""
        (name,) = self.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return Publisher(str(name.value), frozenset({self.issuer.fingerprint(SHA256()).hex()}))

    def sign_program(self, data: bytes) -> bytes:
        """The program with a signature at its end."""
        begin, entry = len(data), HEADER + 24 + 112 + 8 * 4
        checksum = HEADER + 24 + 64
        covered = data[:checksum] + data[checksum + 4 : entry] + data[entry + 8 :]
        algorithm = algos.DigestAlgorithm({"algorithm": "sha256"}).dump()
        digest = core.OctetString(hashlib.sha256(covered).digest()).dump()
        content = _sequence(
            _sequence(core.ObjectIdentifier("1.3.6.1.4.1.311.2.1.15").dump()), _sequence(algorithm, digest)
        )
        message = self._message(FILE, content)
        signature = struct.pack("<IHH", 8 + len(message), 0x200, 2) + message
        result = bytearray(data + signature)
        struct.pack_into("<II", result, entry, begin, len(signature))
        return bytes(result)

    def catalogue(self, files: list[bytes]) -> bytes:
        """A signed list of the SHA-256 of these files, and of one of another length."""
        hashes = [hashlib.sha256(data).digest() for data in files] + [bytes(20)]
        subjects = _sequence(
            *(_sequence(core.OctetString(one).dump(), core.SetOf([], spec=core.Any).dump()) for one in hashes)
        )
        usage = _sequence(core.ObjectIdentifier("1.3.6.1.4.1.311.12.1.1").dump())
        made = core.UTCTime(datetime.datetime(2024, 4, 2, tzinfo=datetime.UTC)).dump()
        algorithm = _sequence(core.ObjectIdentifier("1.3.6.1.4.1.311.12.1.3").dump(), core.Null().dump())
        return self._message(LIST, _sequence(usage, core.OctetString(b"list").dump(), made, algorithm, subjects))

    def _message(self, kind: str, content: bytes) -> bytes:
        body = core.load(content).contents
        attributes = cms.CMSAttributes(
            [
                cms.CMSAttribute({"type": "content_type", "values": [kind]}),
                cms.CMSAttribute({"type": "message_digest", "values": [hashlib.sha256(body).digest()]}),
            ]
        )
        own = asn1_x509.Certificate.load(self.certificate.public_bytes(Encoding.DER))
        signer = {
            "version": "v1",
            "sid": cms.SignerIdentifier(
                "issuer_and_serial_number", {"issuer": own.issuer, "serial_number": own.serial_number}
            ),
            "digest_algorithm": {"algorithm": "sha256"},
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": "rsassa_pkcs1v15"},
            "signature": self.key.sign(attributes.dump(), padding.PKCS1v15(), SHA256()),
        }
        data = {
            "version": "v1",
            "digest_algorithms": [{"algorithm": "sha256"}],
            "encap_content_info": cms.ContentInfo.load(
                _sequence(core.ObjectIdentifier(kind).dump(), _tagged(0xA0, content))
            ),
            "certificates": [
                asn1_x509.Certificate.load(one.public_bytes(Encoding.DER)) for one in (self.issuer, self.certificate)
            ],
            "signer_infos": [signer],
        }
        return bytes(cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(data)}).dump())


def signer(organization: str, *, may_sign: bool = True) -> Signer:
    """Somebody new, with an issuer of their own."""
    issuer_key, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    issuer_name, name = _name("An authority"), _name(organization)
    issuer = _certificate(issuer_name, issuer_name, issuer_key, 1).sign(issuer_key, SHA256())
    wanted = _certificate(name, issuer_name, key, 7)
    usage = ExtendedKeyUsageOID.CODE_SIGNING if may_sign else ExtendedKeyUsageOID.SERVER_AUTH
    wanted = wanted.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return Signer(key, wanted.sign(issuer_key, SHA256()), issuer)


def _name(organization: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey, number: int) -> x509.CertificateBuilder:
    begin = datetime.datetime(2022, 1, 1)
    named = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return named.serial_number(number).not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days=900))


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _tagged(tag: int, body: bytes) -> bytes:
    length = bytes([len(body)]) if len(body) < 128 else bytes([0x82]) + struct.pack(">H", len(body))
    return bytes([tag]) + length + body
