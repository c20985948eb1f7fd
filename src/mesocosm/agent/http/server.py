"""The sockets of the agent, and the way of a request from one of them to its handler."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import stat
import struct
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aiohttp import ClientPayloadError, HttpVersion11, web
from aiohttp.http import HttpProcessingError, StreamWriter

from mesocosm.agent.authentication import Authenticator, Unauthorized
from mesocosm.agent.domain_socket import DomainSocket
from mesocosm.agent.http.origin import check_origin
from mesocosm.agent.http.reply import Reply, RequestError, StreamCutError
from mesocosm.agent.http.routes import AGENT, Request, Route, Routes
from mesocosm.agent.http.websocket import converse
from mesocosm.errors import FlagError
from mesocosm.linux.poll import on_hang_up
from mesocosm.linux.socket_queue import unsent

logger = logging.getLogger(__name__)

_MOST_BYTES = 16 << 20
"""Of a request's body. An environment of megabytes is odd, but a container can have it."""
_FAREWELL = 1.0
"""Seconds that a request which is being answered has at the end: that of the agent, or of its client."""
_PATIENCE = 60.0
"""Seconds that a client may be silent in the middle of a body."""
_IDLE = 30 * 86400.0
"""Seconds that a connection may rest: to an executor of libprocess, its end is that of the agent."""
_FOR_EXECUTORS = frozenset(prefix + path for prefix in ("", AGENT) for path in ("/api/v1", "/api/v1/executor"))
_SAFE = frozenset({"GET", "HEAD"})
"""Methods that change nothing."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_LINGER = struct.pack("=2i", 1, 0)
"""`struct linger`: what was not sent is dropped, and the client told so (socket(7))."""
if sys.platform == "linux":
    _PROBES = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}
    """Seconds of silence until a client is asked whether it is there, and from one time to the next; and how often."""
_MISTAKES = (HttpProcessingError, ClientPayloadError, web.RequestPayloadError)
"""What aiohttp raises where a client speaks no HTTP."""


class Server:
    """Serves the routes on any number of sockets."""

    def __init__(self, routes: Routes, authenticator: Authenticator) -> None:
        self._routes = routes
        self._authenticator = authenticator
        self._runner = web.ServerRunner(
            web.Server(
                self._serve,
                access_log=None,
                logger=_ProtocolLog(logger, {}),
                handler_cancellation=True,  # Who waits for a container and goes away is not waited for.
                keepalive_timeout=_IDLE,
            ),
            shutdown_timeout=_FAREWELL,
        )
        self._unix_sockets: list[Path] = []
        self._executors_sockets: set[str] = set()
        self.names: frozenset[str] = frozenset()
        """How pages of its own may call it, besides by addresses."""

    async def start(self) -> None:
        """Makes ready to listen."""
        await self._runner.setup()

    async def listen(self, host: str, port: int, context: ssl.SSLContext | None) -> tuple[str, int]:
        """Listens there, on a free port if it is 0; returns where. Raises FlagError."""
        try:
            listening = _bind(host, port)
        except OSError as error:
            hint = (
                "stop what has it, or give another --port" if error.errno == errno.EADDRINUSE else "give another --ip"
            )
            raise FlagError(f"--ip, --port: cannot listen on {host}:{port}: {error.strerror or error}", hint) from error
        address = listening.getsockname()
        await web.SockSite(self._runner, listening, ssl_context=context).start()
        return str(address[0]), int(address[1])

    async def listen_locally(self, path: Path, flag: str = "operator_socket", mode: int = 0o600) -> None:
        """Listens on a Unix socket, which only this user can open if no `mode` is given. Raises FlagError."""
        try:
            _remove_stale(path, flag)
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                listening.bind(str(path))
                path.chmod(mode)
            except BaseException:
                listening.close()
                raise
        except OSError as error:
            raise FlagError(f"--{flag}: {path}: {error.strerror or error}") from error
        self._unix_sockets.append(path)
        await web.SockSite(self._runner, listening).start()

    async def listen_for_executors(self, sockets: DomainSocket) -> None:
        """Listens on Unix sockets that every user can open, and has there nothing but what executors need.

        Containers see them that cannot reach the port. Raises FlagError.
        """
        sockets.enclosed.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in (sockets.path, sockets.enclosed):
            self._executors_sockets.add(str(path))
            await self.listen_locally(path, "domain_socket_location", 0o666)

    async def close(self) -> None:
        """Stops listening; requests that take longer than a second are dropped."""
        await self._runner.cleanup()
        for path in self._unix_sockets:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if self._is_of_executors(request) and request.path not in _FOR_EXECUTORS:
                raise RequestError(HTTPStatus.FORBIDDEN, f"{request.path!r} is not for executors")
            route = self._routes.find(request.path, request.method)
            with contextlib.ExitStack() as opened:
                reply = await route.handler(self._received(request, route, opened))
        except RequestError as error:
            reply = error.reply
        except asyncio.CancelledError:
            raise
        except Exception:
            # A defect: who sent the request learns no more than that.
            logger.exception("%s %s failed", request.method, request.path)
            reply = Reply(HTTPStatus.INTERNAL_SERVER_ERROR)
        if reply.conversation is not None:
            with _noticing_its_end(request):
                return await converse(request, reply.conversation)
        if reply.stream is not None:
            try:
                return await _send(request, reply)
            finally:
                if reply.release is not None:
                    reply.release()
        return web.Response(status=reply.status, body=reply.body or None, headers=_headers(reply))

    def _is_of_executors(self, request: web.BaseRequest) -> bool:
        name = None if request.transport is None else request.transport.get_extra_info("sockname")
        return name in self._executors_sockets

    def _received(self, request: web.BaseRequest, route: Route, opened: contextlib.ExitStack) -> Request:
        """What the handler is told, for as long as something is `opened`. Raises RequestError."""
        principal, executor = None, None
        if route.realm is not None:
            given = request.headers.get("Authorization")
            try:
                executor = self._authenticator.authenticate_executor(route.realm, given)
                if executor is None:
                    principal = self._authenticator.authenticate(route.realm, given)
            except Unauthorized as error:
                raise RequestError(HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": error.challenge}) from None
        if request.method not in _SAFE:
            known = principal is not None or executor is not None
            check_origin(request.headers, self.names, is_known=known)

        def chunks() -> AsyncIterator[bytes]:
            opened.enter_context(_noticing_its_end(request))
            return _chunks(request)

        return Request(
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
            principal=principal,
            executor=executor,
            remote=request.remote or None,
            read=lambda: _read(request),
            chunks=chunks,
        )


class _ProtocolLog(logging.LoggerAdapter[logging.Logger]):
    """The log of aiohttp, to which a client that does wrong, or goes away, is an error of ours, with a traceback."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **rest: Any) -> None:
        if isinstance(exc_info, (*_MISTAKES, ConnectionResetError)):
            self.debug(f"{msg}: %s", *args, _line(exc_info))
        else:
            super().exception(msg, *args, exc_info=exc_info, **rest)


async def _read(request: web.BaseRequest) -> bytes:
    """The whole body. Raises RequestError."""
    content = request.content
    if content.is_eof() and content.exception() is None:  # It came with the head, as it nearly always does.
        return bytes(_limited(content.read_nowait()))
    body = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE) as patience:
            async for chunk in _chunks(request):
                patience.reschedule(asyncio.get_running_loop().time() + _PATIENCE)
                body += chunk
                _limited(body)
    except TimeoutError:
        text = f"nothing of the body came for {_PATIENCE:g} s"
        raise RequestError(HTTPStatus.REQUEST_TIMEOUT, text) from None
    return bytes(body)


def _limited(body: bytes | bytearray) -> bytes | bytearray:
    """The body. Raises RequestError if it is too large."""
    if len(body) > _MOST_BYTES:
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has {_MOST_BYTES} bytes at most")
    return body


async def _chunks(request: web.BaseRequest) -> AsyncGenerator[bytes, None]:
    """The body as it comes, which a client may wait to be asked for (RFC 9110, 10.1.1). Raises RequestError."""
    if request.version == HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0  # As aiohttp itself does: it is no part of the answer.
    try:
        async for chunk in request.content.iter_any():
            yield chunk
    except _MISTAKES as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"the body cannot be read: {_line(error)}") from None


@contextlib.contextmanager
def _noticing_its_end(request: web.BaseRequest) -> Iterator[None]:
    """Has a connection end soon after its client has left, also where that sent more than anybody takes.

    Nothing is read from it then, and so asyncio does not come to its end. What does not even fit into the kernel hides
    the end also from that, until the client gives up what it could not send (`tcp_orphan_retries`, tcp(7)).
    """
    transport, loop = request.transport, asyncio.get_running_loop()
    connection = -1 if transport is None else transport.get_extra_info("socket").fileno()
    if transport is None or connection < 0:
        yield
        return
    with on_hang_up(connection, lambda: loop.call_later(_FAREWELL, transport.abort)):
        yield


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


async def _send(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Sends an answer as it comes."""
    assert reply.stream is not None
    response = web.StreamResponse(status=reply.status, headers=_headers(reply))
    async with contextlib.aclosing(reply.stream) as stream:
        await response.prepare(request)
        try:
            async for piece in stream:  # Also for HEAD: a stream that has not begun cannot be closed.
                if request.method == "HEAD":
                    break
                await response.write(piece) if reply.patience is None else await _write(request, piece, reply.patience)
        except StreamCutError as error:
            logger.info("%s for %s is cut: %s", request.path, request.remote or "a client", error)
            _cut(request)
            raise ConnectionResetError(str(error)) from None
    await response.write_eof()
    return response


async def _write(request: web.BaseRequest, piece: bytes, patience: float) -> None:
    """Returns when there is room for more. Raises StreamCutError for a client that takes nothing."""
    transport, writer = request.transport, request.writer
    assert isinstance(writer, StreamWriter)
    await writer.write(piece, drain=False)
    await asyncio.sleep(0)  # Others are served as well, and get what is in memory already.
    if transport is None or transport.get_write_buffer_size() <= transport.get_write_buffer_limits()[1]:
        return
    left, draining = _waiting(transport), asyncio.ensure_future(writer.drain())
    try:
        while not (await asyncio.wait([draining], timeout=patience))[0]:
            still = _waiting(transport)
            if still >= left:
                raise StreamCutError(f"it takes nothing for {patience:g} s")
            left = still
        draining.result()
    finally:
        draining.cancel()


def _waiting(transport: asyncio.WriteTransport) -> int:
    """Bytes that the client has not taken yet."""
    connection = transport.get_extra_info("socket")
    return transport.get_write_buffer_size() + (0 if connection.fileno() < 0 else unsent(connection.fileno()))


def _cut(request: web.BaseRequest) -> None:
    """Ends a connection at once. Neither this process nor the kernel keeps what the client has not taken."""
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.transport.abort()


def _headers(reply: Reply) -> dict[str, str]:
    content = {} if reply.content_type is None else {"Content-Type": reply.content_type}
    return {**reply.headers, **content}


def _remove_stale(path: Path, flag: str) -> None:
    """Removes the socket of an agent that was killed. Raises OSError, and FlagError for what is no such thing."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise FlagError(f"--{flag}: {path} is there, and no socket", "remove it, or give another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # Should too many wait there already, that is an error.
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FlagError(f"--{flag}: another process listens on {path}", "give each agent a path of its own")


def _have_lost_clients_noticed(listening: socket.socket) -> None:
    """Of a machine that is gone without a word, also by who only waits for it to type: connections inherit this."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        for option, value in _PROBES.items():
            listening.setsockopt(socket.IPPROTO_TCP, option, value)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _have_lost_clients_noticed(listening)
        listening.bind((host, port))
    except BaseException:
        listening.close()
        raise
    return listening
