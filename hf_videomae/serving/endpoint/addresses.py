"""Resolve the host of a URL from a request and check that all its addresses are public.

A name is resolved once, and the server connects only to an address that was checked. So a name server that answers
differently the second time (DNS rebinding) gains nothing.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from .request_errors import BadRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}
_HOST_NAME = re.compile(r"(?=.{1,254}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+")
# As in browsers: if the last label is a number in any spelling, the host is an IPv4 address.
_LAST_LABEL_IS_NUMBER = re.compile(r"(.*\.)?(\d+|0[xX][0-9a-fA-F]*)\.?")

# IANA's special-purpose addresses, and the one by which machines on Azure reach their host. Python's own
# `is_private` differs between releases.
_PRIVATE_NETWORKS_V4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
        "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    )
]  # fmt: skip
# All other IPv6 addresses are loopback, mapped, translated (NAT64), local or multicast. The excluded networks inside
# are Teredo and similar, documentation, and 6to4: they carry an IPv4 address or lead nowhere.
_PUBLIC_NETWORK_V6 = ipaddress.IPv6Network("2000::/3")
_PRIVATE_NETWORKS_V6 = [
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
]


@dataclass(frozen=True, kw_only=True)
class ParsedURL:
    """The parts of a URL. `path` includes the query, and no message may show it."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """Return the URL, as the base of a relative redirect."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse_url(url: str) -> ParsedURL:
    """Parse an http(s) URL.

    Raises:
        BadRequest: for another scheme, a user name or password, a host that is neither a name nor an address in its
            usual spelling, or characters that programs interpret differently.
    """
    if not re.fullmatch(r"[!-~]{1,4096}", url) or "\\" in url:
        raise BadRequest("the URL holds spaces, backslashes or characters outside ASCII, or is longer than 4096")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadRequest("the URL is malformed") from error
    if parts.scheme not in _PORTS:
        raise BadRequest("the URL must begin with http:// or https://")
    if "@" in parts.netloc:
        raise BadRequest("the URL holds a name or password; give one without, for example a signed URL")
    host = parts.hostname or ""
    if not _is_host(host, in_brackets="[" in parts.netloc):
        raise BadRequest("the URL's host is neither a name nor an address in its usual spelling")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return ParsedURL(scheme=parts.scheme, host=host, port=_PORTS[parts.scheme] if port is None else port, path=path)


def resolve_public_addresses(target: ParsedURL, *, allow: Iterable[str] = ()) -> list[Address]:
    """Return the addresses of a host, if each of them is public or allowed with this port.

    Raises:
        BadRequest: when one of them is neither, or the name is unknown.
    """
    allowed = parse_allowlist(allow)
    try:
        addresses = list(dict.fromkeys(_resolve_host(target)))
    except (OSError, UnicodeError) as error:
        raise BadRequest("the URL's host cannot be found") from error
    for address in addresses:
        if (address, target.port) in allowed:
            continue
        if not is_public(address):
            raise BadRequest("the URL's host is not on the public internet")
        if target.port not in _PORTS.values():
            raise BadRequest(f"the URL's port is {target.port}; 80 and 443 are allowed")
    return addresses


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the public internet and embeds no other address."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _PRIVATE_NETWORKS_V4)
    return address in _PUBLIC_NETWORK_V6 and not any(address in network for network in _PRIVATE_NETWORKS_V6)


def parse_allowlist(allow: Iterable[str]) -> set[tuple[Address, int]]:
    """Return (address, port) pairs of `ADDRESS:PORT` texts.

    Raises:
        ValueError: for anything else, host names included, because what a name resolves to changes.
    """
    pairs = set()
    for text in allow:
        host, _, port = text.rpartition(":")
        try:
            pairs.add((ipaddress.ip_address(host.strip("[]")), int(port)))
        except ValueError as error:
            raise ValueError(f"allow has {text!r}; give ADDRESS:PORT, such as 10.0.0.5:9000 or [::1]:80") from error
    return pairs


def _is_host(host: str, *, in_brackets: bool) -> bool:
    try:
        if in_brackets:
            return "%" not in host and bool(ipaddress.IPv6Address(host))
        if _LAST_LABEL_IS_NUMBER.fullmatch(host):
            return bool(ipaddress.IPv4Address(host))  # refuses 127.1, 0177.0.0.1, 2130706433, 0x7f000001
    except ValueError:
        return False
    return _HOST_NAME.fullmatch(host) is not None


def _resolve_host(target: ParsedURL) -> list[Address]:
    try:
        return [ipaddress.ip_address(target.host)]
    except ValueError:
        entries = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]
