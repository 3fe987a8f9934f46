"""gRPC as a program without the SDK speaks it: any method, any bytes, any metadata; and what came back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc.experimental import ChannelOptions

DEADLINE_SECONDS = 30
# As the SDK sets them, but for its retries.
OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
    # Without a thread for each call.
    (ChannelOptions.SingleThreadedUnaryStream, 1),
)
Metadata = Sequence[tuple[str, str | bytes]]
# It goes on until the client has heard enough, which is the first message.
ENDLESS = "/grpc.health.v1.Health/Watch"


@dataclass(frozen=True)
class Outcome:
    """How a call ended. `trailing` are its trailing metadata, `messages` what came before."""

    code: str
    details: str
    messages: tuple[bytes, ...]
    trailing: dict[str, str]


def bearer(key: str) -> Metadata:
    return (("authorization", f"Bearer {key}"),)


def call(
    channel: grpc.Channel,
    path: Any,
    messages: Iterable[Any],
    metadata: Metadata,
    timeout_seconds: float = DEADLINE_SECONDS,
) -> Outcome:
    """Send `messages`, protobuf or bytes, to a method of any arity."""
    sent = [message if isinstance(message, bytes) else message.SerializeToString() for message in messages]
    how: Any = {"metadata": metadata, "timeout": timeout_seconds}
    if len(sent) == 1:
        rpc = channel.unary_stream(path)(sent[0], **how)
    else:
        rpc = channel.stream_stream(path)(iter(sent), **how)
    received = []
    try:
        for message in rpc:
            received.append(message)
            if path == ENDLESS:
                rpc.cancel()
                return Outcome("OK", "", tuple(received), {})
    except grpc.RpcError as error:
        assert error is rpc  # noqa: PT017
    trailing = {name: str(value) for name, value in rpc.trailing_metadata() or ()}
    return Outcome(rpc.code().name, rpc.details() or "", tuple(received), trailing)


def plain_channel(address: str, *options: tuple[str, Any]) -> grpc.Channel:
    return grpc.insecure_channel(address, (*OPTIONS, *options))
