"""One TLS connection to a SIEM (RFC 5425): connect, send, know what the other side's kernel has. Owns the socket.

    connection = await connect("siem.example", 6514, context_of(config.siem), timeout_s=10)
    await connection.send(frames)
    await connection.confirmed(timeout_s=10, survive_s=0.1)     # raises OSError when it is gone
    await connection.close()

Syslog has no acknowledgement. What can be known: the other side's TCP acknowledged every byte (the kernel's queue of
what is unacknowledged is empty), and the connection was neither closed nor refused afterwards. TLS runs over memory
here and the socket is ours, because a stream of asyncio would keep bytes in buffers that nobody can ask about.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import struct
import termios

from appliance.config import SiemConfig
from appliance.errors import ConfigInvalid

_READ_BYTES = 16 * 1024
_POLL_S = 0.01  # the kernel offers no event for "everything was acknowledged"


class PeerGone(ConnectionError):
    """The SIEM ended the connection. The message says how."""


def context_of(settings: SiemConfig) -> ssl.SSLContext:
    """TLS 1.2 or later; the server's certificate and name are checked, ours is shown where one is configured.

    Files are read now, so that a renewed certificate counts from the next connection on. Raises `ConfigInvalid`.
    """
    try:
        cafile = None if settings.ca_certificate is None else str(settings.ca_certificate)
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=cafile)
    except (OSError, ValueError) as error:
        raise _unusable("siem.ca_certificate", settings.ca_certificate, error) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
    if settings.client_certificate is not None:
        try:
            context.load_cert_chain(settings.client_certificate, settings.client_key, password=_no_password)
        except (OSError, ValueError) as error:
            raise _unusable("siem.client_certificate", settings.client_certificate, error) from None
    return context


async def connect(host: str, port: int, context: ssl.SSLContext, *, timeout_s: float) -> SiemConnection:
    """A connection whose certificate was accepted. Raises `OSError`; `ssl.SSLCertVerificationError` is one."""
    async with asyncio.timeout(timeout_s):
        loop = asyncio.get_running_loop()
        places = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        error: OSError = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in places:
            stream = socket.socket(family, kind, protocol)
            try:
                stream.setblocking(False)
                await loop.sock_connect(stream, address)
                connection = SiemConnection(stream, context, host)
                await connection.handshake()
                return connection
            except ssl.SSLError:
                stream.close()
                raise  # another address of the same name would have the same certificate
            except OSError as failed:
                stream.close()
                error = failed
            except BaseException:
                stream.close()
                raise
        raise error


class SiemConnection:
    """See the module; made by `connect`. Used by one task."""

    def __init__(self, stream: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._sending = asyncio.Lock()  # the watcher answers key updates while a batch is on its way
        self._watching: asyncio.Task[None] | None = None

    async def handshake(self) -> None:
        """Agree on keys and check the certificate; then watch for the end of the connection."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError:
                await self._flush()  # tells the other side why
                raise
        await self._flush()
        self._watching = asyncio.create_task(self._watch())

    async def send(self, data: bytes) -> None:
        """Hand `data` to the kernel, all of it. May wait for a slow reader; the caller sets the limit."""
        self._require_alive()
        self._tls.write(data)
        await self._flush()

    async def confirmed(self, *, timeout_s: float, survive_s: float) -> None:
        """Return once the other side's TCP has everything and the connection lived on for `survive_s`.

        Raises `PeerGone`, `TimeoutError`.
        """
        async with asyncio.timeout(timeout_s):
            while self._unacknowledged() > 0:
                await self.alive_for(_POLL_S)
        await self.alive_for(survive_s)

    async def alive_for(self, seconds: float) -> None:
        """Wait that long, or raise `PeerGone` as soon as the connection ends."""
        assert self._watching is not None, "the handshake is over"
        await asyncio.wait({self._watching}, timeout=seconds)
        self._require_alive()

    async def close(self) -> None:
        """End it, with the notice that TLS wants if the kernel takes it at once."""
        try:
            if self._watching is not None:
                self._watching.cancel()
                # Before the socket: its number may belong to another one as soon as it is closed.
                await asyncio.gather(self._watching, return_exceptions=True)
        finally:
            self._say_goodbye()
            self._stream.close()

    def _say_goodbye(self) -> None:
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # it wants to read the other side's notice, which nobody waits for
        try:
            self._stream.send(self._outgoing.read())
        except OSError:
            pass

    def _require_alive(self) -> None:
        if self._watching is None or not self._watching.done():
            return
        error = None if self._watching.cancelled() else self._watching.exception()
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
        raise PeerGone(f"it ended the connection ({reason})" if reason else "it ended the connection")

    async def _watch(self) -> None:
        """Read and throw away until the end: a SIEM sends nothing that means anything here."""
        while True:
            await self._fill()
            try:
                while self._tls.read(_READ_BYTES):
                    pass
                return
            except ssl.SSLWantReadError:
                await self._flush()

    async def _fill(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(self._stream, _READ_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        async with self._sending:
            data = self._outgoing.read()
            if data:
                await asyncio.get_running_loop().sock_sendall(self._stream, data)

    def _unacknowledged(self) -> int:
        """Bytes that the other side's TCP did not acknowledge; 0 where the system cannot say (not Linux)."""
        try:
            return struct.unpack("i", fcntl.ioctl(self._stream, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        except OSError:
            return 0


def _no_password() -> str:
    """Called for an encrypted key: nobody is there to be asked."""
    raise ValueError("the key is encrypted")


def _unusable(key: str, path: object, error: Exception) -> ConfigInvalid:
    reason = (isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.strerror) or "not usable PEM"
    return ConfigInvalid(f"cannot use {key} {path}: {reason}", hint="name a readable PEM file; keys without passphrase")
