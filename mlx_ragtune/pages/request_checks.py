"""Who may ask a local page: the names under which it is known, its secrets, and requests from other sites.

A web page of another site can make a browser send requests to this machine. Such a request names the other site in
``Origin`` or, after that site's name was pointed at this machine (DNS rebinding), in ``Host``.
"""

import errno
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlx_ragtune.errors import RagtuneError, RecipeError, ToolError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class HostNames:
    """The values of ``Host`` that a server answers to: its names, with its port or, for a proxy, any of ``more``.

    ``any_address``: a literal IP address is known too, which no rebinding can produce.
    """

    port: int
    more: frozenset[str] = frozenset()
    any_address: bool = False

    def knows(self, header: str) -> bool:
        """Whether a ``Host`` header names this server."""
        name, port = split_host(header)
        if name in self.more:
            return True
        return port == self.port and (name in LOOPBACK or (self.any_address and is_address(name)))


def split_host(header: str) -> tuple[str, int | None]:
    """The name in lower case and the port of a ``Host`` header; ("", None) for what is none."""
    try:
        parts = urlsplit(f"//{header}")
        if parts.path or parts.query or parts.fragment or "@" in header or not parts.hostname:
            return "", None
        return parts.hostname.rstrip("."), parts.port or 80
    except ValueError:
        return "", None


def is_address(name: str) -> bool:
    """Whether a name is a literal IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a server that listens on ``host`` is reachable from this machine only."""
    return host in LOOPBACK or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def same_secret(given: str, secret: str) -> bool:
    """Whether two texts are equal, in a time that does not tell how much of them is."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def session_secret(token: str) -> str:
    """What a browser keeps in place of the token: derived from it, so that it stays right after a restart."""
    return hmac.new(token.encode(), b"ragtune page", "sha256").hexdigest()


def is_same_origin(origin: str, host: str) -> bool:
    """Whether the ``Origin`` of a request is the site that its ``Host`` names."""
    scheme, _, rest = origin.partition("://")
    return scheme in ("http", "https") and split_host(rest) == split_host(host) and bool(rest)


def require_names(names: Iterable[str]) -> frozenset[str]:
    """The names in lower case, without a port. Raises RecipeError for what is not a host name."""
    known = set()
    for name in names:
        bare, _ = split_host(name)
        if not bare:
            raise RecipeError(f"'{name}' is not a host name", where="--allow-host", fix="give a name such as my-server")
        known.add(bare)
    return frozenset(known)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on a host's address; port 0 takes a free one. Raises ToolError when it cannot."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise cannot_listen(host, port, error) from None
    except ValueError:  # what no name can be: a label of more than 63 characters
        raise RecipeError(
            f"'{host[:80]}' is not a host name", where="--host", fix="give an address of this machine"
        ) from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except OSError as error:
        made.close()
        raise cannot_listen(host, port, error) from None
    return made


def cannot_listen(host: str, port: int, error: OSError) -> RagtuneError:
    """The error for an address that is not available."""
    reason = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return ToolError(
            f"cannot listen on '{host[:80]}': {reason}", where="--host", fix="give an address of this machine"
        )
    return ToolError(
        f"cannot listen on port {port}: {reason}",
        where=f"{host}:{port}",
        fix="choose another port with --port; 0 takes a free one",
    )
