# SPDX-License-Identifier: Apache-2.0
"""TLS, proxy and bypass of all HTTP connections to the API and to the hosts of results: the only place that decides.

Each setting comes from the connection's extra or else from the environment, by the same rules for every HTTP library:

==============  ==================================================================================
setting         variables, in the order of their precedence
==============  ==================================================================================
``ca_bundle``   ``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE``, ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``
``proxy``       ``https_proxy`` or ``http_proxy``, by the scheme of the URL, then ``all_proxy``
``no_proxy``    ``no_proxy``
==============  ==================================================================================

The names of the proxy variables may be in lower or upper case. Without a CA bundle, the system's certificates and those
of certifi are trusted.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from airflow_provider_wan.api.errors import WanValidationError

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_DEFAULT_PORTS = {"http": 80, "https": 443}

TLS_REMEDY = (
    "Name the CA of the server, or of a proxy that inspects TLS, as ca_bundle in the connection's extra or as "
    "REQUESTS_CA_BUNDLE, on workers and triggerers alike"
)


@dataclass(frozen=True)
class NetworkSettings:
    """How to connect. What is ``None`` comes from the environment.

    :param ca_bundle: file or folder of the trusted certificates.
    :param client_cert: file with the certificate to present to the server and, unless it is in ``client_key``, its key.
    :param client_key: file with the key of ``client_cert``.
    :param proxy: URL of an HTTP proxy for all hosts.
    :param no_proxy: hosts that are connected to directly: names (with their subdomains), addresses and networks such
        as ``10.0.0.0/8``, each with or without a port, separated by commas; ``*`` for all.
    """

    ca_bundle: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    proxy: str | None = field(default=None, repr=False)
    no_proxy: str | None = None

    def __post_init__(self) -> None:
        if self.client_key and not self.client_cert:
            raise WanValidationError("client_key", self.client_key, "needs a client_cert")
        if self.proxy:
            object.__setattr__(self, "proxy", _parse_proxy("proxy", self.proxy))

    def ssl_context(self) -> ssl.SSLContext:
        """Return the context for TLS connections; it is made once for the same files.

        :raises WanValidationError: naming the setting or variable whose file can't be used.
        """
        name, bundle = self._find_bundle()
        files = tuple((path, _modified(path)) for path in (bundle, self.client_cert, self.client_key) if path)
        return _build_context(name, bundle, self.client_cert, self.client_key, files)

    def find_proxy(self, url: str) -> str | None:
        """Return the URL of the proxy for a URL, or ``None`` to connect directly.

        :param url: absolute http or https URL.
        :raises WanValidationError: if the proxy is none that can be used, such as a SOCKS proxy.
        """
        parts = urlsplit(url)
        environment = urllib.request.getproxies_environment()
        bypass = self.no_proxy if self.no_proxy is not None else environment.get("no")
        if bypass and _is_bypassed(parts, bypass):
            return None
        if self.proxy:
            return self.proxy
        for name in (parts.scheme, "all"):
            if proxy := environment.get(name):
                return _parse_proxy(f"{name}_proxy", proxy)
        return None

    def open_session(self, url: str) -> requests.Session:
        """Open a requests session for one URL that uses these settings, and nothing else of the environment.

        :param url: the only URL that the session may request.
        """
        import requests

        session = requests.Session()
        session.trust_env = False
        scheme = urlsplit(url).scheme
        if (proxy := self.find_proxy(url)) is not None:
            session.proxies = {"http": proxy, "https": proxy}
        if "https" in (scheme, urlsplit(proxy or "").scheme):
            # By itself, requests does not verify a proxy for a URL without TLS.
            session.mount(f"{scheme}://", _build_adapter(self.ssl_context()))
        return session

    def _find_bundle(self) -> tuple[str, str | None]:
        if self.ca_bundle:
            return "ca_bundle", self.ca_bundle
        for name in _CA_VARIABLES:
            if path := os.environ.get(name):
                return name, path
        return "ca_bundle", None


#: All settings come from the environment.
FROM_ENVIRONMENT = NetworkSettings()


@lru_cache(maxsize=16)
def _build_context(
    name: str, bundle: str | None, cert: str | None, key: str | None, files: tuple[tuple[str, float], ...]
) -> ssl.SSLContext:
    """Build a context; ``files`` holds the times of the files, so that a changed one is loaded again."""
    try:
        if bundle is None:
            context = ssl.create_default_context()
            _add_certifi(context)
        elif Path(bundle).is_dir():
            context = ssl.create_default_context(capath=bundle)
        else:
            context = ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise WanValidationError(
            name,
            bundle,
            f"can't be read as a bundle of CA certificates ({error.strerror or type(error).__name__})",
            "Name a PEM file, or a folder made by c_rehash, that exists on workers and triggerers alike",
        ) from None
    if cert is not None:
        try:
            # Without a password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(cert, key, password="")
        except OSError as error:
            raise WanValidationError(
                "client_cert",
                cert,
                f"can't be read as a certificate with its key ({error.strerror or type(error).__name__})",
                "Name PEM files that exist on workers and triggerers alike; the key must not have a password",
            ) from None
    return context


def _build_adapter(context: ssl.SSLContext) -> requests.adapters.HTTPAdapter:
    from requests.adapters import HTTPAdapter

    class ContextAdapter(HTTPAdapter):
        """Uses the context as it is: requests itself would add certifi's certificates to it."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, ssl_context=context, **kwargs)

        def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
            return super().proxy_manager_for(proxy, ssl_context=context, proxy_ssl_context=context, **kwargs)

        def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
            host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
            return host, {}

        def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
            return

    return ContextAdapter()


def call_within(call: Callable[[], T], seconds: float) -> T:
    """Return what a blocking call returns, if it does so in time.

    The timeouts of requests begin anew with each byte, so a head that drips would be waited for without end; a name
    lookup has none. A call that takes too long is left to a daemon thread.

    :param call: connects, or sends a request and returns its response.
    :param seconds: total time limit.
    :raises TimeoutError: if the call takes longer.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="wan-call", daemon=True).start()
    return future.result(seconds)


def describe_connection_error(error: BaseException) -> str:
    """Return the classes of an error and its cause, and the reason and the remedy if a certificate is the cause.

    The messages of the HTTP libraries can contain whole URLs and headers, so they are left out.

    :param error: an error of an HTTP library.
    """
    chain = list(_walk_causes(error))
    names = " / ".join(dict.fromkeys((type(chain[0]).__name__, type(chain[-1]).__name__)))
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in chain):
        # OpenSSL's own words, as for a CA without key usage, which Python 3.13 and newer refuse.
        reasons = [f" ({reason})" for each in chain if (reason := getattr(each, "verify_message", ""))]
        return f"{names}: the certificate is not trusted{''.join(reasons[:1])}. {TLS_REMEDY}"
    return names


def _walk_causes(error: BaseException) -> Iterator[BaseException]:
    for _ in range(8):
        yield error
        wrapped = (getattr(error, "reason", None), getattr(error, "certificate_error", None), *error.args[:1])
        causes = (*wrapped, error.__cause__, error.__context__)
        found = next((each for each in causes if isinstance(each, BaseException)), None)
        if found is None:
            return
        error = found


def _add_certifi(context: ssl.SSLContext) -> None:
    try:
        import certifi
    except ImportError:
        return
    context.load_verify_locations(certifi.where())


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _parse_proxy(name: str, text: str) -> str:
    """Return the URL of a proxy, which may be written without its scheme."""
    proxy = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        # What precedes the @ may be a password.
        display = f"***@{proxy.rpartition('@')[2]}" if "@" in proxy else proxy
        raise WanValidationError(
            name,
            display,
            "must be the URL of an HTTP proxy, http://host:port or https://host:port; SOCKS is not supported",
            "Set it, or the variable, to such a URL, or list the API's host in no_proxy",
        )
    return proxy


def _is_bypassed(parts: SplitResult, bypass: str) -> bool:
    """Return whether a URL matches an entry of ``no_proxy``."""
    host = (parts.hostname or "").rstrip(".").lower()
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    address = _parse_address(host)
    return any(_matches(entry, host, port, address) for entry in bypass.replace(",", " ").split())


def _matches(
    entry: str, host: str, port: int | None, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> bool:
    if entry == "*":
        return True
    name, wanted_port = _split_port(entry.lower())
    if wanted_port is not None and wanted_port != port:
        return False
    if address is not None:
        try:
            return address in ipaddress.ip_network(name, strict=False)
        except ValueError:
            return False
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith("." + name))


def _split_port(entry: str) -> tuple[str, int | None]:
    """Split ``host:port``, ``[address]:port`` or ``address``."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        return entry, None
    return name, int(port) if port.isdigit() else None


def _parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
