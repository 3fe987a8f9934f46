"""gRPC's health service: whether a model can answer. It needs a key; what has none asks `/health/ready` over HTTP."""

import asyncio
from contextlib import suppress
from typing import Any

from leadline.dialects.xai.protos import METHODS, health
from leadline.dialects.xai.rpc import Rpc
from leadline.errors import NotFound

_LOOK_EVERY_SECONDS = 0.5
_STATUS = health.HealthCheckResponse.DESCRIPTOR.enum_types_by_name["ServingStatus"].values_by_name
_SERVICES = frozenset(("", *(method.containing_service.full_name for method in METHODS.values())))


async def check(rpc: Rpc, wire: Any) -> Any:
    if wire.service not in _SERVICES:
        raise NotFound("There is no such service.")
    return _answer(_state(rpc))


async def watch(rpc: Rpc, wire: Any) -> None:
    """The state now and whenever it changes, until the server stops."""
    said = ""
    while not rpc.draining.is_set():
        state = _state(rpc) if wire.service in _SERVICES else "SERVICE_UNKNOWN"
        if state != said:
            await rpc.write(_answer(state))
            said = state
        with suppress(TimeoutError):
            await asyncio.wait_for(rpc.draining.wait(), _LOOK_EVERY_SECONDS)
    await rpc.write(_answer("NOT_SERVING"))


def _state(rpc: Rpc) -> str:
    return "SERVING" if rpc.pipeline.is_ready else "NOT_SERVING"


def _answer(state: str) -> Any:
    return health.HealthCheckResponse(status=_STATUS[state].number)


HANDLERS = {"/grpc.health.v1.Health/Check": check, "/grpc.health.v1.Health/Watch": watch}
