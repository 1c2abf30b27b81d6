from __future__ import annotations

import base64
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sessionctl.adapters.cluster import credentials
from sessionctl.errors import ConfigurationError

Document = dict[str, object]


@pytest.fixture(scope="module")
def pair() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


@pytest.fixture(autouse=True)
def no_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)


def write(folder: Path, user: Document, cluster: Document | None = None, changes: Document | None = None) -> str:
    document = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://api:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
        **(changes or {}),
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return str(file)


async def token_of(kubeconfig: str) -> str | None:
    return await credentials.load(kubeconfig, None)[1].get()


async def test_a_token_is_used_as_it_is(tmp_path: Path) -> None:
    kubeconfig = write(tmp_path, {"token": "secret"})
    endpoint, token = credentials.load(kubeconfig, None)
    assert (endpoint.server, await token.get()) == ("https://api:6443", "secret")


async def test_a_token_file_is_read_again_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("first\n")
    _, token = credentials.load(write(tmp_path, {"tokenFile": "token"}), None)
    assert await token.get() == "first"
    (tmp_path / "token").write_text("second\n")
    assert await token.get() == "first"
    monkeypatch.setattr(credentials, "TOKEN_SECONDS", -1.0)
    assert await token.get() == "second"


@pytest.mark.parametrize("inline", [True, False])
async def test_certificates_come_from_the_file_or_from_beside_it(
    tmp_path: Path, pair: tuple[bytes, bytes], inline: bool
) -> None:
    certificate, key = pair
    (tmp_path / "c.pem").write_bytes(certificate)
    (tmp_path / "k.pem").write_bytes(key)
    if inline:
        encoded = {name: base64.b64encode(data).decode() for name, data in (("c", certificate), ("k", key))}
        user: Document = {"client-certificate-data": encoded["c"], "client-key-data": encoded["k"]}
        cluster: Document = {"certificate-authority-data": encoded["c"]}
    else:
        user = {"client-certificate": "c.pem", "client-key": "k.pem"}
        cluster = {"certificate-authority": "c.pem"}
    endpoint, token = credentials.load(write(tmp_path, user, cluster), None)
    assert [ca["subject"] for ca in endpoint.tls.get_ca_certs()] == [((("commonName", "test"),),)]
    assert await token.get() is None


async def test_a_plugin_is_run_by_the_official_loader(tmp_path: Path) -> None:
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "from the plugin"},
    }
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    user: Document = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    assert await token_of(write(tmp_path, user)) == "from the plugin"


async def test_inside_a_pod_the_service_account_is_used(
    tmp_path: Path, pair: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.crt").write_bytes(pair[0])
    (tmp_path / "token").write_text("of the pod")
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    endpoint, token = credentials.load(None, None)
    assert (endpoint.server, await token.get()) == ("https://[fd00::1]:443", "of the pod")
    assert endpoint.in_cluster


def test_inside_a_pod_a_kubeconfig_or_a_context_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    (tmp_path / ".kube").mkdir()
    with pytest.raises(ConfigurationError, match="there is no file"):
        credentials.load(None, "elsewhere")
    Path(write(tmp_path / ".kube", {"token": "x"})).rename(tmp_path / ".kube" / "config")
    endpoint, _ = credentials.load(None, None)
    # It may be another cluster's.
    assert (endpoint.server, endpoint.in_cluster) == ("https://api:6443", False)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"current-context": None}, "has no current context"),
        ({"contexts": []}, "no context named 'here'"),
        ({"clusters": []}, "no cluster named 'c'"),
        ({"users": []}, "no user named 'u'"),
        ({"clusters": [{"name": "c", "cluster": {}}]}, "has no server"),
        (
            {"clusters": [{"name": "c", "cluster": {"server": "https://a", "certificate-authority": "gone"}}]},
            "No such file",
        ),
        ({"users": [{"name": "u", "user": {"client-certificate-data": "%%%"}}]}, "no usable kubeconfig"),
    ],
)
def test_a_broken_kubeconfig_is_explained(tmp_path: Path, changes: Document, cause: str) -> None:
    with pytest.raises(ConfigurationError, match=cause):
        credentials.load(write(tmp_path, {"token": "x"}, changes=changes), None)


def test_no_kubeconfig_at_all() -> None:
    with pytest.raises(ConfigurationError, match=r"there is no file ~/\.kube/config"):
        credentials.load(None, None)


def test_a_kubeconfig_that_is_not_yaml(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text("a: [")
    with pytest.raises(ConfigurationError, match="no usable kubeconfig"):
        credentials.load(str(file), None)
