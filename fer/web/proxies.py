"""Whose word counts about where a request came from: addresses, scheme and host name."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fer.config import is_loopback, networks

#: What proxies, and strangers who pose as one, say about a request. Gradio builds absolute URLs
#: from some of them, so none goes further in than `ClientAddress`.
_SAID_BY_PROXIES = frozenset(
    {
        b"forwarded",
        b"x-client-ip",
        b"x-forwarded-by",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-gradio-server",
        b"x-original-url",
        b"x-real-ip",
        b"x-rewrite-url",
    }
)
_SPEAKS_FOR_OTHERS = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})
_POSING = "fer_posing"
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")

#: Addresses in `X-Forwarded-For` that are looked at, from the right.
_LONGEST_CHAIN = 20

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ClientAddress:
    """Finds out who is at the other end, and lets nobody else's word about it further in.

    The peer's address counts, unless the peer is a trusted proxy: then it is the right-most
    address in `X-Forwarded-For` that is no trusted proxy itself, and `X-Forwarded-Proto` says
    whether the visitor came by TLS. Afterwards the headers are dropped. The name of the host is
    the one in `Host`, which a proxy passes on; `X-Forwarded-Host` never counts.

    Args:
        trusted: addresses and networks of proxies, by comma.
    """

    def __init__(self, app: ASGIApp, trusted: str = "") -> None:
        self.app = app
        self.trusted = networks(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        said = Headers(scope=scope)
        client, scheme = self._origin(scope, said)
        by_proxy = self._is_trusted(address_of((scope.get("client") or ("",))[0]))
        kept = [
            (name, value)
            for name, value in scope["headers"]
            if name not in _SAID_BY_PROXIES and (by_proxy or name != b"x-request-id")
        ]
        # Somebody speaks for others here whom nobody trusts: a proxy that was not made known, or
        # a forger. Neither is this machine.
        posing = not by_proxy and any(name in _SPEAKS_FOR_OTHERS for name, _ in scope["headers"])
        state = {**scope.get("state", {}), _POSING: posing}
        scope = {**scope, "client": client, "scheme": scheme, "headers": kept, "state": state}
        await self.app(scope, receive, send)

    def _origin(self, scope: Scope, said: Headers) -> tuple[tuple[str, int] | None, str]:
        """Address and port of the visitor, and the scheme that the visitor used."""
        client, scheme = scope.get("client"), scope["scheme"]
        peer = address_of(client[0]) if client else None
        if client is None or not self._is_trusted(peer):
            return client, scheme
        found, hops = peer, 0
        for part in reversed(_parts(said.getlist("x-forwarded-for"))[-_LONGEST_CHAIN:]):
            address = address_of(part)
            if address is None:
                break  # whoever wrote this is no proxy of ours
            found, hops = address, hops + 1
            if not self._is_trusted(address):
                break
        protocols = [one.casefold() for one in _parts(said.getlist("x-forwarded-proto"))]
        if protocols:
            # As far from the right as the address; a proxy that only names its own, the last.
            wanted = protocols[-hops] if 0 < hops <= len(protocols) else protocols[-1]
            if wanted in ("http", "https"):
                secure = wanted == "https"
                plain = "ws" if scope["type"] == "websocket" else "http"
                scheme = plain + "s" * secure
        return (str(found), 0 if hops else client[1]), scheme

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self.trusted)


class KnownHosts:
    """Answers 400 where `Host` is missing, malformed, sent twice, or not a name of this server.

    Redirects to the same server lose its name, which the frameworks take from `Host`.

    Args:
        hosts: names that the server answers to, without port; any where empty. A name that
            begins with a dot stands for its subdomains too.
        refused: is told of each refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str] = (),
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.app = app
        self.hosts = tuple(host.casefold() for host in hosts)
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        hosts = Headers(scope=scope).getlist("host")
        if not self.answers_to(hosts):
            self.refused("host")
            await PlainTextResponse("This server has another name.", 400)(scope, receive, send)
            return
        own = f"{scope['scheme']}://{hosts[0]}/"

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("location", "").startswith(own):
                    # One slash: two would begin another host's name.
                    headers["location"] = "/" + headers["location"][len(own) :].lstrip("/\\")
            await send(message)

        await self.app(scope, receive, sending)

    def answers_to(self, hosts: list[str]) -> bool:
        """Whether `Host`, as often as it was sent, is one name that this server answers to."""
        if len(hosts) != 1 or _HOST.fullmatch(hosts[0]) is None:
            return False
        if not self.hosts:
            return True
        name = host_name(hosts[0])
        return any(
            name == host or (host.startswith(".") and (name.endswith(host) or name == host[1:]))
            for host in self.hosts
        )


def host_name(host: str) -> str:
    """The name in a `Host` header, without port and in small letters."""
    if host.startswith("["):
        return host.partition("]")[0][1:].casefold()
    return host.partition(":")[0].casefold()


def address_of(text: str) -> Address | None:
    """The address that `text` names, with or without port; None where it names none.

    An IPv4 address in IPv6's clothes is the IPv4 address.
    """
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def client_of(scope: Scope) -> str:
    """The address behind a request, as `ClientAddress` found it; empty where there is none."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def is_local(scope: Scope) -> bool:
    """Whether a request comes from this machine, seen past trusted proxies.

    One that names another address on the way does not, nor one that asks for another name than
    this machine's own: a proxy on this machine that nobody made known, or a page of a stranger's
    whose name leads here.
    """
    found = address_of(client_of(scope))
    name = host_name(Headers(scope=scope).get("host", ""))
    posing = scope.get("state", {}).get(_POSING, True)
    return found is not None and found.is_loopback and is_loopback(name) and not posing


def _parts(values: Iterable[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]
