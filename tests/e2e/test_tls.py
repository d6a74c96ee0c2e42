"""All three servers with a certificate: they speak TLS, and say so in their endpoints and URLs."""

import ssl

import httpx
from prism_sdk import PrismClient
from program import PORTS, prism, serving

from prism.testing.certificate import self_signed


def certificate(folder):
    """The variables that name one."""
    made = self_signed(folder)
    return {"PRISM_SERVER__TLS__CERT_FILE": str(made.cert_file), "PRISM_SERVER__TLS__KEY_FILE": str(made.key_file)}


def test_all_three_servers_speak_tls(tmp_path):
    with serving(tmp_path / "data", env=certificate(tmp_path)) as program:
        trust = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        assert program.http.startswith("https://")
        assert httpx.get(program.http + "/readyz", verify=trust).status_code == 200
        with PrismClient("user-uploads", endpoint=program.grpc, tls=True, ca_file=tmp_path / "cert.pem") as client:
            client.put_object("", "key", b"content")
            url = client.get_presigned_url("", "key")
            (tmp_path / "in").write_bytes(b"a file")
            client.upload_file("", "file", tmp_path / "in")
            client.download_file("", "file", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == b"a file"
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
