"""Keys, certificates, tokens and kubeconfigs of a cluster."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from typing import TYPE_CHECKING

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tools.localcluster.sandbox import NODE_IP, NODE_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from tools.localcluster.models import Layout, Secrets

# Kubeconfig users: name -> (user name, groups) as the API server sees them.
USERS = {
    "admin": ("admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    # What their charts would grant with roles of their own; this cluster is not about testing those.
    "keda": ("keda-operator", "system:masters"),
    "kwok": ("kwok", "system:masters"),
    "provisioner": ("provisioner", "system:masters"),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "kube-proxy": ("system:kube-proxy", ""),
}
_LIFETIME = dt.timedelta(days=3650)
_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
_ADDRESSES = ("127.0.0.1", "10.96.0.1", NODE_IP)


def write_pki(pki: Path) -> None:
    """Write ca, serving, kubelet and sa key pairs, and KEDA's self-signed certificate folder."""
    authority_key, authority = _self_signed("sessionctl-local-ca", is_authority=True)
    write_private(pki / "ca.crt", _pem(authority))
    for file, name, group in (
        ("serving", "kube-apiserver", ""),
        ("kubelet", NODE_NAME, ""),
        # What the API server shows to kubelet when somebody asks for logs or a port-forward.
        ("kubelet-client", "kube-apiserver", "system:masters"),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        signed = (
            _certificate(_subject(name, group), key.public_key(), authority.subject)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        write_private(pki / f"{file}.crt", _pem(signed))
        write_private(pki / f"{file}.key", _key_pem(key))
    account_key = ec.generate_private_key(ec.SECP256R1())
    write_private(pki / "sa.key", _key_pem(account_key))
    public = account_key.public_key()
    write_private(
        pki / "sa.pub",
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
    keda_key, keda = _self_signed("keda-operator", is_authority=False)
    (pki / "keda").mkdir(exist_ok=True)
    # KEDA's gRPC metrics server exits without all three, though nobody connects to it here.
    write_private(pki / "keda" / "tls.key", _key_pem(keda_key))
    for name in ("tls.crt", "ca.crt"):
        write_private(pki / "keda" / name, _pem(keda))


def write_server_pair(pki: Path, file: str, *names: str) -> None:
    """Write a self-signed certificate for these host names, and its key; one that is there stays."""
    if (pki / f"{file}.key").exists():
        return
    key, certificate = _self_signed(names[0], is_authority=False, names=names)
    write_private(pki / f"{file}.crt", _pem(certificate))
    write_private(pki / f"{file}.key", _key_pem(key))


def write_tokens(file: Path, secrets: Secrets) -> None:
    """Write the API server's token file."""
    rows = (f'{secrets.tokens[user]},{name},{user},"{groups}"' for user, (name, groups) in USERS.items())
    write_private(file, "".join(f"{row}\n" for row in rows).encode())


def write_kubeconfig(file: Path, layout: Layout, server: str, token: str, user: str) -> None:
    """Write a kubeconfig with a bearer token."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "local", "cluster": {"server": server, "certificate-authority": str(layout.pki / "ca.crt")}}
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": user}}],
        "current-context": "local",
    }
    write_private(file, yaml.safe_dump(document, sort_keys=False).encode())


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whatever the umask."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        handle.write(content)


def _self_signed(
    name: str, *, is_authority: bool, names: tuple[str, ...] = ()
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _certificate(_subject(name), key.public_key(), _subject(name), names)
    if is_authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return key, builder.sign(key, hashes.SHA256())


def _certificate(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: x509.Name, further: tuple[str, ...] = ()
) -> x509.CertificateBuilder:
    # A minute back, for clocks that were set in between.
    start = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in (*_NAMES, *further)]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in _ADDRESSES]
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )


def _subject(name: str, group: str = "") -> x509.Name:
    groups = [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*groups, x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        # SEC 1, the one form that every component here reads.
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
