"""Certificates for tests of TLS, for localhost and 127.0.0.1.

`self_signed` is its own authority, good for a day. `issued` is signed by an authority made beside it and forgotten:
some clients refuse an authority's certificate that a server shows as its own.
"""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..config import TLSConfig

__all__ = ["Issued", "issued", "self_signed"]

_NAMES = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])


class Issued(TLSConfig, frozen=True, kw_only=True):
    """A server's certificate and the authority that signed it."""

    ca_file: Path
    """The authority's own certificate, PEM: what a client must trust."""


def self_signed(folder: Path) -> TLSConfig:
    """Write `cert.pem` and `key.pem` into the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("prism test")
    building = _begun(name, name, key.public_key(), timedelta(days=1), authority=True)
    cert = building.add_extension(_NAMES, critical=False).sign(key, hashes.SHA256())
    return _written(folder, cert, key)


def issued(folder: Path, *, life: timedelta = timedelta(days=1)) -> Issued:
    """Write `ca.pem`, `cert.pem` and `key.pem` into the folder; the authority's key is not kept."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = _named("prism test authority")
    ca = _begun(ca_name, ca_name, ca_key.public_key(), life, authority=True).sign(ca_key, hashes.SHA256())
    building = _begun(_named("prism test"), ca_name, key.public_key(), life, authority=False)
    cert = building.add_extension(_NAMES, critical=False).sign(ca_key, hashes.SHA256())
    made = _written(folder, cert, key)
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    return Issued(cert_file=made.cert_file, key_file=made.key_file, ca_file=ca_file)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta, *, authority: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    constraints = x509.BasicConstraints(ca=authority, path_length=0 if authority else None)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + life)
        .add_extension(constraints, critical=True)
    )


def _written(folder: Path, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> TLSConfig:
    made = TLSConfig(cert_file=folder / "cert.pem", key_file=folder / "key.pem")
    made.cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    made.key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return made
