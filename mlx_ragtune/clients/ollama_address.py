"""Addresses of Ollama servers: which one is meant, how to reach it, and how it may be shown.

``OLLAMA_HOST`` has the meaning that Ollama gives it: ``box``, ``box:1234``, ``:1234``, ``http://box:1234/path``.
It replaces the default host of every recipe key and of ``ollama:NAME`` bases; a recipe that names another host
wins. Credentials are read from its userinfo only, and never appear in an address that this module returns.
"""

import ipaddress
import os
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from mlx_ragtune.errors import RecipeError

DEFAULT_HOST = "http://127.0.0.1:11434"
"""What a recipe's ``host`` is when it is left out."""
_DEFAULT_PORT = 11434
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")
_UNSAFE = re.compile(r"""[\s\\<>"'`{}|^\x00-\x1f\x7f]""")
_EXAMPLE = f"use an address like {DEFAULT_HOST}"


@dataclass(frozen=True)
class Address:
    """A server: ``url`` without userinfo or a trailing slash, and (user, password) where there are any."""

    url: str
    credentials: tuple[str, str] | None = field(default=None, repr=False)


def parse_host(text: str, *, where: str = "host") -> Address:
    """The address that ``text`` means, read as Ollama reads OLLAMA_HOST.

    Without a scheme the port is 11434 unless given; ``http://box`` is port 80 and ``https://box`` port 443. An
    address to listen on (``0.0.0.0``, ``[::]``) becomes the loopback address. Raises RecipeError for anything else.
    """
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    if _is_ipv6(rest):
        rest = f"[{rest}]"
    try:
        parts = urlsplit(f"{scheme.lower()}://{rest}")
        host, port = _host_name(parts), parts.port
        if parts.scheme not in ("http", "https") or parts.query or parts.fragment or port == 0:
            raise ValueError(text)
        if _UNSAFE.search(text):
            raise ValueError(text)
    except ValueError:
        raise RecipeError(
            f"'{_without_userinfo(text)[:200]}' is not the address of a server", where=where, fix=_EXAMPLE
        ) from None
    if port is None and not separator:
        port = _DEFAULT_PORT
    url = f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
    if parts.username is None and parts.password is None:
        return Address(url)
    return Address(url, (unquote(parts.username or ""), unquote(parts.password or "")))


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _host_name(parts: SplitResult) -> str:
    """The host as it stands in a URL. Raises ValueError for what is not a name or an IP address."""
    host = parts.hostname or "127.0.0.1"
    if ":" in host:
        address = ipaddress.IPv6Address(host)
        if address.scope_id:
            raise ValueError(host)
        return "[::1]" if address.is_unspecified else f"[{address}]"
    host = host.encode("idna").decode()
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(host)
    return "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 (compared, not listened on)


def _without_userinfo(text: str) -> str:
    scheme, separator, rest = text.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if "@" in rest else text


def public_host(host: str) -> str:
    """The address without userinfo, for messages, receipts and reports. Never raises."""
    try:
        return parse_host(host).url
    except RecipeError:
        return _without_userinfo(host)


def effective_host(host: str = DEFAULT_HOST) -> str:
    """The address, without userinfo, of the server that a recipe's ``host`` means.

    The default stands for OLLAMA_HOST where that is set; any other host means itself. Raises RecipeError for what
    is not an address.
    """
    url = parse_host(host).url
    given = _environment()
    return given.url if given and url == DEFAULT_HOST else url


def credentials_for(url: str) -> tuple[str, str] | None:
    """User and password for the server at ``url``: those of OLLAMA_HOST when it names that server, else none."""
    given = _environment()
    return given.credentials if given and given.url == url else None


def _environment() -> Address | None:
    value = os.environ.get("OLLAMA_HOST", "").strip()
    return parse_host(value, where="OLLAMA_HOST") if value else None


def start_command(url: str) -> str:
    """What starts the server at ``url``, as a fix for a server that does not answer."""
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme == "https" or parts.path:
        return f"start the server behind {url}, or correct the address"
    port = parts.port or 80
    listen = ("[::1]" if parts.hostname == "::1" else "127.0.0.1") if local else "0.0.0.0"  # noqa: S104 (shown)
    command = "ollama serve" if url == DEFAULT_HOST else f"OLLAMA_HOST={listen}:{port} ollama serve"
    return command if local else f"on {parts.hostname}: {command}"


def ollama_command(url: str, arguments: str) -> str:
    """``ollama …`` that talks to the server at ``url``, whatever OLLAMA_HOST the shell has."""
    return f"ollama {arguments}" if url == effective_host() else f"OLLAMA_HOST={url} ollama {arguments}"


def pull_command(url: str, model: str) -> str:
    """What fetches a model to the server at ``url``."""
    return ollama_command(url, f"pull {model}")
