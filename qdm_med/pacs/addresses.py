"""Network addresses: nodes to send to, web services, and callers that may come in."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from qdm_med.errors import ConfigError

_TITLE = re.compile(r"[ -\[\]-~]{1,16}")
"""An application entity title (PS3.5 6.2, AE): up to 16 printable characters without a backslash."""
LARGEST_PORT = 65535


@dataclass(frozen=True)
class Node:
    """A DICOM node that takes associations.

    Attributes:
        title: Its application entity title.
        host: Name or address of its machine.
        port: TCP port.
    """

    title: str
    host: str
    port: int

    def __str__(self) -> str:
        """Spell the node as on the command line."""
        return f"{self.title}@{self.host}:{self.port}"


@dataclass(frozen=True)
class WebService:
    """A DICOMweb service.

    Attributes:
        url: Address up to ``/studies``.
    """

    url: str

    def __str__(self) -> str:
        """Spell the service as on the command line."""
        return self.url


Destination = Node | WebService


@dataclass(frozen=True)
class Caller:
    """A node that may come in: both its title and its machine must be right.

    Attributes:
        title: Its application entity title.
        addresses: IP addresses of its machine.
    """

    title: str
    addresses: frozenset[str]


def parse_destination(text: str) -> Destination:
    """Read ``TITLE@HOST:PORT`` or the URL of a DICOMweb service.

    >>> parse_destination("ARCHIVE@127.0.0.1:104")
    Node(title='ARCHIVE', host='127.0.0.1', port=104)
    >>> parse_destination("https://pacs.example/dicom-web/")
    WebService(url='https://pacs.example/dicom-web')

    Raises:
        ConfigError: If it is neither.
    """
    if text.startswith(("http://", "https://")):
        return _web_service(text)
    title, separator, place = text.rpartition("@")
    host, colon, port = place.rpartition(":")
    if not (separator and colon and host) or not port.isdecimal() or not 0 < int(port) <= LARGEST_PORT:
        raise ConfigError(f"destination {text!r} is neither TITLE@HOST:PORT nor a URL of a DICOMweb service")
    return Node(require_title(title), host.strip("[]"), int(port))


def _web_service(text: str) -> WebService:
    try:
        parts = urlsplit(text)
        host, secret = parts.hostname, parts.username or parts.password
    except ValueError:
        host, secret = None, None
    if not host:
        raise ConfigError(f"destination {text!r} is no URL of a DICOMweb service")
    if secret:
        raise ConfigError(f"destination at {host} carries a password; put user and password into ~/.netrc instead")
    return WebService(text.rstrip("/"))


def parse_caller(text: str) -> Caller:
    """Read ``TITLE@HOST``; a name is looked up once.

    >>> parse_caller("CT1@127.0.0.1")
    Caller(title='CT1', addresses=frozenset({'127.0.0.1'}))

    Raises:
        ConfigError: If it is none, or no machine has the name.
    """
    title, separator, host = text.rpartition("@")
    if not separator or not host:
        raise ConfigError(f"caller {text!r} is not TITLE@HOST, such as CT1@192.0.2.7")
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError:
        raise ConfigError(f"caller {text!r}: no machine has the name {host}; give its address") from None
    return Caller(require_title(title), frozenset(str(address[4][0]) for address in found))


def require_title(title: str) -> str:
    """Check an application entity title, and drop the surrounding blanks, which do not count.

    Raises:
        ConfigError: If it is none.
    """
    stripped = title.strip(" ")
    if not _TITLE.fullmatch(stripped):
        raise ConfigError(f"application entity title {title!r} must have 1 to 16 ASCII characters and no backslash")
    return stripped
