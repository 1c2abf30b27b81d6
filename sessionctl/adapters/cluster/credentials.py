"""How to reach and log in to the API server, from a kubeconfig or from a pod's own service account.

| kubeconfig user                              | read by                                          |
|----------------------------------------------|--------------------------------------------------|
| token, tokenFile, client certificate         | this module: nothing else has to be imported     |
| exec plugin, auth-provider, basic, proxy-url | the official ``kubernetes`` package, loaded late |
| several files in KUBECONFIG                  | the official ``kubernetes`` package, loaded late |
| none, inside a pod                           | the mounted service account, token read again    |
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from sessionctl.adapters.cluster.objects import child
from sessionctl.adapters.files import load_yaml
from sessionctl.errors import ConfigurationError

if TYPE_CHECKING:
    from sessionctl.models import JsonObject, JsonValue

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS: Final = 60.0
"""A token from a file or a plugin is asked for again after this time: it may have been replaced."""

_OWN_USER_KEYS: Final = frozenset(
    {
        "token",
        "tokenFile",
        "client-certificate",
        "client-certificate-data",
        "client-key",
        "client-key-data",
    }
)
_OWN_CLUSTER_KEYS: Final = frozenset(
    {
        "server",
        "certificate-authority",
        "certificate-authority-data",
        "insecure-skip-tls-verify",
        "tls-server-name",
    }
)


@dataclass(frozen=True)
class Endpoint:
    """An API server, ready to connect to."""

    server: str
    tls: ssl.SSLContext
    server_name: str | None = None
    proxy: str | None = None
    in_cluster: bool = False
    """Whether this process is a pod of that cluster, so that names of Services mean something to it."""


class TokenSource:
    """The bearer token, read again when it may have changed."""

    def __init__(self, *, text: str | None = None, file: Path | None = None, plugin: _Delegate | None = None) -> None:
        self._text = text
        self._file = file
        self._plugin = plugin
        self._read_at = float("-inf")

    async def get(self) -> str | None:
        """Return the token; None where a client certificate is used. Raises ConfigurationError."""
        if (self._file or self._plugin) and time.monotonic() - self._read_at > TOKEN_SECONDS:
            self._text = await asyncio.to_thread(self._read)
            self._read_at = time.monotonic()
        return self._text

    def _read(self) -> str | None:
        if self._plugin is not None:
            return self._plugin.load().token
        if self._file is None:
            return self._text
        try:
            return self._file.read_text().strip()
        except OSError as error:
            msg = f"no usable kubeconfig: the token file {self._file} cannot be read"
            raise ConfigurationError(msg, hint="Log in again, or give --kubeconfig.") from error


def load(kubeconfig: str | None, context: str | None) -> tuple[Endpoint, TokenSource]:
    """Return the API server and its token, without contacting it; blocking. Raises ConfigurationError."""
    location = kubeconfig or os.environ.get("KUBECONFIG")
    paths = [Path(part) for part in (location or str(Path.home() / ".kube" / "config")).split(os.pathsep) if part]
    files = [path for path in paths if path.is_file()]
    # As kubectl and Helm do: a pod's own account is used only where there is no kubeconfig.
    if not files and location is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return _in_cluster()
    if not files:
        msg = f"no usable kubeconfig: there is no file {location or '~/.kube/config'}"
        raise ConfigurationError(msg, hint="Set KUBECONFIG or give --kubeconfig.")
    try:
        return _from_file(files[0], context) if len(files) == 1 else _delegated(location, context)
    except (OSError, ValueError, yaml.YAMLError) as error:
        msg = f"no usable kubeconfig: {str(error).splitlines()[0][:200]}"
        raise ConfigurationError(msg, hint="Check it with: kubectl config view") from error


def _trusting(cafile: str | None = None, cadata: str | None = None) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=cafile, cadata=cadata)
    # As kubectl does: many clusters' own authorities lack the key identifiers that Python 3.13 asks for by default.
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return tls


def _in_cluster() -> tuple[Endpoint, TokenSource]:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    try:
        tls = _trusting(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
    except OSError as error:
        msg = "this pod has no service account token to log in to the Kubernetes API with"
        raise ConfigurationError(msg, hint="Set automountServiceAccountToken, or give --kubeconfig.") from error
    return Endpoint(server, tls, in_cluster=True), TokenSource(file=SERVICE_ACCOUNT / "token")


def _from_file(file: Path, context: str | None) -> tuple[Endpoint, TokenSource]:
    document = load_yaml(file.read_text())
    name = context or child(document).get("current-context")
    if not name:
        raise ValueError(f"{file} has no current context")
    chosen = _named(document, "contexts", name, "context")
    cluster = _named(document, "clusters", chosen.get("cluster"), "cluster")
    user = _named(document, "users", chosen.get("user"), "user") if chosen.get("user") else {}
    if user.keys() - _OWN_USER_KEYS or cluster.keys() - _OWN_CLUSTER_KEYS - {"extensions"}:
        return _delegated(str(file), context)
    if not isinstance(cluster.get("server"), str):
        raise ValueError(f"{file}: the cluster of context {name} has no server")  # noqa: TRY004 - all that is wrong with the file is one kind
    folder = file.parent
    server_name = cluster.get("tls-server-name")
    token_file = user.get("tokenFile")
    return (
        Endpoint(
            server=str(cluster["server"]).rstrip("/"),
            tls=_tls(folder, cluster, user),
            server_name=str(server_name) if server_name else None,
        ),
        TokenSource(
            text=str(user["token"]) if user.get("token") else None,
            file=folder / str(token_file) if token_file and not user.get("token") else None,
        ),
    )


def _named(document: JsonValue, kind: str, name: JsonValue, part: str) -> JsonObject:
    entries = child(document).get(kind)
    for entry in entries if isinstance(entries, list) else []:
        if child(entry).get("name") == name:
            return child(entry, part)
    raise ValueError(f"the kubeconfig has no {part} named {name!r}")


def _tls(folder: Path, cluster: JsonObject, user: JsonObject) -> ssl.SSLContext:
    authority = cluster.get("certificate-authority-data"), cluster.get("certificate-authority")
    if authority[0]:
        tls = _trusting(cadata=base64.b64decode(str(authority[0])).decode())
    elif authority[1]:
        tls = _trusting(cafile=str(folder / str(authority[1])))
    else:
        tls = _trusting()
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate = _pem(folder, user, "client-certificate")
    if certificate is not None:
        import tempfile  # noqa: PLC0415 - a tenth of what this module costs, for certificates only

        # OpenSSL reads certificates from files only; they live no longer than this call.
        with tempfile.NamedTemporaryFile() as chain:
            chain.write(certificate + b"\n" + (_pem(folder, user, "client-key") or b""))
            chain.flush()
            tls.load_cert_chain(chain.name)
    return tls


def _pem(folder: Path, user: JsonObject, key: str) -> bytes | None:
    data, file = user.get(f"{key}-data"), user.get(key)
    if data:
        return base64.b64decode(str(data))
    return (folder / str(file)).read_bytes() if file else None


@dataclass(frozen=True)
class _Loaded:
    endpoint: Endpoint
    token: str | None


@dataclass(frozen=True)
class _Delegate:
    """Kubeconfigs that need the official loader: it runs plugins and refreshes tokens."""

    location: str | None
    context: str | None

    def load(self) -> _Loaded:
        """Read the kubeconfig, run what it names, and return the result; raises ConfigurationError."""
        from kubernetes.client import Configuration  # noqa: PLC0415 - 0.3 s that most kubeconfigs do not need
        from kubernetes.config import ConfigException, load_kube_config  # noqa: PLC0415

        found = Configuration()
        try:
            load_kube_config(config_file=self.location, context=self.context, client_configuration=found)
        except ConfigException as error:
            msg = f"no usable kubeconfig: {str(error).splitlines()[0][:200]}"
            raise ConfigurationError(msg, hint="Check it with: kubectl config view") from error
        tls = _trusting(cafile=found.ssl_ca_cert)
        if not found.verify_ssl:
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        if found.cert_file:
            tls.load_cert_chain(found.cert_file, found.key_file)
        token = found.get_api_key_with_prefix("authorization") or found.get_api_key_with_prefix("BearerToken")
        server_name = getattr(found, "tls_server_name", None)
        return _Loaded(
            Endpoint(str(found.host).rstrip("/"), tls, server_name, found.proxy),
            str(token).removeprefix("Bearer ") if token else None,
        )


def _delegated(location: str | None, context: str | None) -> tuple[Endpoint, TokenSource]:
    delegate = _Delegate(location, context)
    loaded = delegate.load()
    return loaded.endpoint, TokenSource(text=loaded.token, plugin=delegate)
