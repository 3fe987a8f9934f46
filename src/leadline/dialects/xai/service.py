"""Every call that comes in, whatever its method: authenticated first, then answered or refused, and noted.

This is the only way in. A method that is in no table is refused, after its key was checked.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import grpc

from leadline.dialects.recordings import STOPPING
from leadline.dialects.xai.errors import code_of
from leadline.dialects.xai.protos import METHODS, message_class
from leadline.dialects.xai.rpc import STALLED_SECONDS, Handlers, Rpc, only_message, parsed, serialized
from leadline.errors import ClientGone, LeadlineError, Unavailable, WrongMethod
from leadline.serving.pipeline import Pipeline
from leadline.web.access import log_request
from leadline.web.presented import told

_UNREAD = f"Nothing of the answer was read for {STALLED_SECONDS:g} s, so it was ended. Read it as it comes."
_FAREWELL_SECONDS = 1.0
# What is left of a call once its key was checked.
Work = Callable[[Rpc], Awaitable[bytes]]


@dataclass(slots=True)
class Service(grpc.GenericRpcHandler):
    """`handlers` by path. Those in `for_any_key` look at the key themselves: it may be one that may do nothing.
    `instead` says of a service, by its full name, what to use in its place."""

    pipeline: Pipeline
    handlers: Handlers
    for_any_key: frozenset[str]
    instead: Mapping[str, str]
    # Set when no more calls are taken.
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    _running: set[Rpc] = field(default_factory=set)
    _made: dict[str, Any] = field(default_factory=dict)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Bytes come in and go out; what is in them is parsed only once the key was checked."""
        path = str(handler_call_details.method)
        made = self._made.get(path)
        if made is None:
            made = self._handler(path)
            if path in METHODS:  # others would be remembered without end
                self._made[path] = made
        return made

    def _handler(self, path: str) -> Any:
        method, handler = METHODS.get(path), self.handlers.get(path)
        if method is None or handler is None:
            return grpc.stream_stream_rpc_method_handler(partial(self._refuse, path))
        kind = message_class(method.input_type)
        if method.client_streaming and method.server_streaming:

            async def converse(messages: AsyncIterator[bytes], context: Any) -> None:
                async def work(rpc: Rpc) -> bytes:
                    await handler(rpc, rpc.received(messages, kind))
                    return b""

                await self._answer(path, context, work)

            return grpc.stream_stream_rpc_method_handler(converse)
        if method.client_streaming:

            async def take_all(messages: AsyncIterator[bytes], context: Any) -> bytes:
                async def work(rpc: Rpc) -> bytes:
                    return serialized(await handler(rpc, rpc.received(messages, kind)))

                return await self._answer(path, context, work)

            return grpc.stream_unary_rpc_method_handler(take_all)

        async def take(messages: AsyncIterator[bytes], context: Any) -> bytes:
            async def work(rpc: Rpc) -> bytes:
                answer = await handler(rpc, parsed(await only_message(messages), kind))
                return b"" if answer is None else serialized(answer)

            return await self._answer(path, context, work)

        # The library waits for a single message without end, and says nothing where there is none.
        if not method.server_streaming:
            return grpc.stream_unary_rpc_method_handler(take)

        async def stream(messages: AsyncIterator[bytes], context: Any) -> None:
            await take(messages, context)

        return grpc.stream_stream_rpc_method_handler(stream)

    def stop(self) -> None:
        """End what still runs, with an error that says why."""
        for rpc in list(self._running):
            rpc.stopping = True
            rpc.task.cancel()

    async def _refuse(self, path: str, _: AsyncIterator[bytes], context: Any) -> None:
        async def work(_: Rpc) -> bytes:
            service = path.removeprefix("/").partition("/")[0]
            raise WrongMethod(self.instead.get(service) or f"There is no method {path[:200]} here.", "")

        await self._answer(path, context, work)

    async def _answer(self, path: str, context: Any, work: Work) -> bytes:
        task = asyncio.current_task()
        assert task is not None
        rpc, began = Rpc(self.pipeline, path, context, task, self.draining), time.monotonic()
        error: LeadlineError | None = None
        self._running.add(rpc)
        code = "OK"
        try:
            if path not in self.for_any_key:
                rpc.authenticate()
            answer = await work(rpc)
            context.set_trailing_metadata(_trailing(rpc))
            return answer
        except asyncio.CancelledError:
            if not rpc.stopping:
                code = "CANCELLED"
                raise
            task.uncancel()
            error = Unavailable(STOPPING)
        except ClientGone:
            error = ClientGone(_UNREAD)
        except Exception as failure:
            error = told(failure, str(rpc.request_id), path)
        finally:
            rpc.close()
            self._running.discard(rpc)
            status = code if error is None else code_of(error).name
            log_request("request", "gRPC", path, status, began, request_id=str(rpc.request_id))
        return await _abort(rpc, error)


async def _abort(rpc: Rpc, error: LeadlineError) -> NoReturn:
    """Raises. Behind what the client has not read yet the error waits for him, but nobody waits for that here."""
    rpc.tell_error(error)
    if rpc.can_be_told:
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await rpc.context.abort(code_of(error), str(error), _trailing(rpc))
    raise asyncio.CancelledError


def _trailing(rpc: Rpc) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", str(rpc.request_id)), *rpc.trailing)
