"""The gRPC server: which services there are, what the transport allows, how it begins and ends.

Messages received have at most 5 MiB, so that a chunk of 4 MiB and its header fit. Flow control and one chunk in flight
per stream bound the memory of a transfer whatever its size and the client's speed. Nothing is decided here.
"""

from collections.abc import Mapping
from typing import Any

import grpc

from ..config import Limits, TLSConfig
from ..errors import ErrorCode, PrismError
from .grpc_calls import Calls
from .grpc_health import HEALTH_SERVICE, REFLECTION_SERVICES, Health, reflection_methods
from .grpc_objects import NAMESPACE_SERVICE, OBJECT_SERVICE, namespace_methods, object_methods
from .grpc_uploads import UPLOAD_SERVICE, upload_methods
from .services import Services

__all__ = ["GrpcServer", "start_grpc"]

_MAX_RECEIVE_BYTES = 5 << 20
_KEEPALIVE_SECONDS = 30
_KEEPALIVE_TIMEOUT_SECONDS = 20


class GrpcServer:
    """A server that runs; `address` is where, with the port that was really taken."""

    def __init__(self, server: Any, health: Health, address: str) -> None:
        self._server = server
        self._health = health
        self.address = address

    async def stop(self, grace_seconds: float) -> None:
        """Say NOT_SERVING, take no new RPC, let those in progress end for at most `grace_seconds`, then cancel them."""
        self._health.stop()
        await self._server.stop(grace_seconds)


async def start_grpc(
    services: Services, address: str, tls: TLSConfig | None, *, share_port: bool = False
) -> GrpcServer:
    """Serve on `address` (`host:port`; port 0: any free one, empty host: all interfaces).

    `share_port` lets several processes listen on one port. INVALID_ARGUMENT when the address or the
    certificate cannot be used.
    """
    calls = Calls(services)
    health = Health(services, (OBJECT_SERVICE, NAMESPACE_SERVICE, UPLOAD_SERVICE))
    methods = {
        OBJECT_SERVICE: object_methods(services, calls),
        NAMESPACE_SERVICE: namespace_methods(services, calls),
        UPLOAD_SERVICE: upload_methods(services, calls),
        HEALTH_SERVICE: health.methods(calls),
    }
    described = (*methods, *REFLECTION_SERVICES[:1])
    methods |= {name: reflection_methods(services, calls, described) for name in REFLECTION_SERVICES}
    server = grpc.aio.server(options=_options(services.config.limits, share_port))
    server.add_generic_rpc_handlers((_Methods(methods, calls.unknown()),))
    host, _, port = address.rpartition(":")
    bound = _bind(server, f"{host or '[::]'}:{port}", _credentials(tls))
    await server.start()
    return GrpcServer(server, health, f"{host}:{bound}")


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc carries no types
    """Handlers by full name; there is one for names that do not exist, so that these errors have details too."""

    def __init__(
        self, methods: Mapping[str, Mapping[str, grpc.RpcMethodHandler]], unknown: grpc.RpcMethodHandler
    ) -> None:
        self._by_path = {f"/{name}/{method}": made for name, of in methods.items() for method, made in of.items()}
        self._unknown = unknown

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The handler of a method."""
        return self._by_path.get(details.method, self._unknown)


def _options(limits: Limits, share_port: bool) -> list[tuple[str, int]]:
    longest = int((limits.max_transfer_seconds + limits.idle_seconds) * 1000)
    return [
        ("grpc.max_receive_message_length", _MAX_RECEIVE_BYTES),
        ("grpc.max_send_message_length", _MAX_RECEIVE_BYTES),
        ("grpc.max_metadata_size", limits.max_header_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_header_bytes),
        # More than are served, so that one connection's further requests are answered and not held back unheard.
        ("grpc.max_concurrent_streams", 2 * limits.max_requests),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.keepalive_time_ms", _KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_SECONDS * 1000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_connection_idle_ms", int(limits.idle_seconds * 1000)),
        # Whatever a client does, no connection outlives the longest transfer twice.
        ("grpc.max_connection_age_ms", longest),
        ("grpc.max_connection_age_grace_ms", longest),
        ("grpc.so_reuseport", int(share_port)),
    ]


def _credentials(tls: TLSConfig | None) -> grpc.ServerCredentials | None:
    if tls is None:
        return None
    try:
        pair = (tls.key_file.read_bytes(), tls.cert_file.read_bytes())
    except OSError as error:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"server.tls cannot be read: {error.strerror}") from error
    return grpc.ssl_server_credentials([pair])


def _bind(server: Any, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise PrismError(
            ErrorCode.INVALID_ARGUMENT, f"gRPC cannot listen on {address}: it is in use or not ours"
        ) from error
