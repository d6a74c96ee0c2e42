"""The two services that every gRPC server has: health (grpc.health.v1) and reflection (v1alpha, and v1: the same wire).

Health follows the services' readiness and says NOT_SERVING from the first moment of a shutdown. Both pass the decision
function like any RPC.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from ..errors import ErrorCode, PrismError
from ..model import Action, Caller
from .grpc_calls import Calls
from .services import Services

__all__ = ["HEALTH_SERVICE", "REFLECTION_SERVICES", "Health", "reflection_methods"]

HEALTH_SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION_SERVICES = (reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection")
_LOOK_SECONDS = 1.0
_Status = health_pb2.HealthCheckResponse


class Health:
    """Readiness as health checks see it."""

    def __init__(self, services: Services, names: Iterable[str]) -> None:
        self._services = services
        self._names = frozenset(names) | {""}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """NOT_SERVING from now on; watchers are told and their streams end."""
        self._stopping.set()

    def methods(self, calls: Calls) -> Mapping[str, grpc.RpcMethodHandler]:
        """The RPCs of grpc.health.v1.Health."""
        return {
            "Check": calls.unary(health_pb2.HealthCheckRequest, self._check),
            "Watch": calls.watch(health_pb2.HealthCheckRequest, self._watch),
        }

    async def _check(self, caller: Caller, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        with self._services.access.operation(caller, Action.READ_HEALTH):
            if request.service not in self._names:
                raise PrismError(ErrorCode.OBJECT_NOT_FOUND, "there is no such service")
            return _Status(status=await self._status())

    async def _watch(
        self, caller: Caller, request: health_pb2.HealthCheckRequest
    ) -> AsyncGenerator[health_pb2.HealthCheckResponse, None]:
        with self._services.access.operation(caller, Action.READ_HEALTH):
            known = request.service in self._names
        said = None
        while True:
            ending = self._stopping.is_set()
            status = await self._status() if known else _Status.SERVICE_UNKNOWN
            if status != said:
                yield _Status(status=status)
                said = status
            if ending:
                return
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _status(self) -> int:
        serving = not self._stopping.is_set() and not await self._services.ready()
        return int(_Status.SERVING if serving else _Status.NOT_SERVING)


def reflection_methods(services: Services, calls: Calls, names: Iterable[str]) -> Mapping[str, grpc.RpcMethodHandler]:
    """The one RPC of server reflection."""
    servicer = reflection.aio.ReflectionServicer(names)

    async def info(
        caller: Caller, requests: AsyncIterator[reflection_pb2.ServerReflectionRequest]
    ) -> AsyncGenerator[reflection_pb2.ServerReflectionResponse, None]:
        with services.access.operation(caller, Action.READ_DOCS):
            async for answer in servicer.ServerReflectionInfo(requests, None):
                yield answer

    return {"ServerReflectionInfo": calls.conversation(reflection_pb2.ServerReflectionRequest, info)}
