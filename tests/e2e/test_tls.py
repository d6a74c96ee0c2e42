"""All three servers with a certificate: they speak TLS, and say so in their endpoints and URLs."""

import datetime
import ipaddress
import ssl

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prism_sdk import PrismClient
from program import PORTS, prism, serving


def certificate(folder):
    """A self-signed one for 127.0.0.1; the variables that name it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "prism test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {
        "PRISM_SERVER__TLS__CERT_FILE": str(folder / "cert.pem"),
        "PRISM_SERVER__TLS__KEY_FILE": str(folder / "key.pem"),
    }


def test_all_three_servers_speak_tls(tmp_path):
    with serving(tmp_path / "data", env=certificate(tmp_path)) as program:
        trust = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        assert program.http.startswith("https://")
        assert httpx.get(program.http + "/readyz", verify=trust).status_code == 200
        with PrismClient("user-uploads", endpoint=program.grpc, tls=True, ca_file=tmp_path / "cert.pem") as client:
            client.put_object("", "key", b"content")
            url = client.get_presigned_url("", "key")
        assert url.startswith(program.s3)
        assert url.startswith("https://")
        assert httpx.get(url, verify=trust).content == b"content"


def test_a_certificate_that_cannot_be_read_is_one_sentence(tmp_path):
    env = certificate(tmp_path)
    (tmp_path / "key.pem").unlink()
    ended = prism("serve", "--data-dir", str(tmp_path / "data"), *PORTS, env=env)
    assert ended.returncode == 1
    assert ended.stderr.count(b"\n") == 1
    (tmp_path / "key.pem").write_text("no key")
    ended = prism("serve", "--data-dir", str(tmp_path / "data"), *PORTS, "--roles", "s3", env=env)
    assert (ended.returncode, ended.stderr.count(b"\n")) == (1, 1)
