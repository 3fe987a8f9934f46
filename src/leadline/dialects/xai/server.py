"""The gRPC server: its services, its bounds and its sockets. It runs on the event loop that it is started on."""

import os
from collections.abc import Mapping
from typing import Any

# gRPC's hooks for programs that fork without exec write to the terminal; engines are started with exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# What its library has to say of broken connections is not for whoever runs this server.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio

from leadline.dialects.xai import batches, chat, files, health, keys, models, reflection, sample, tokenize
from leadline.dialects.xai.service import Service
from leadline.serving.pipeline import Pipeline
from leadline.web.exchange import LARGEST_BODY_BYTES

# Clients ping every 30 s, also while a call is silent for minutes: they are never told that this is too much, or they
# would send the call again. A message may be as large as a body over HTTP; the rest is its frame.
# Windows do not grow with a client's bandwidth: of many uploads at once they would hold hundreds of megabytes.
OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_BODY_BYTES + 64 * 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.so_reuseport", 0),
)
HANDLERS = {
    **chat.HANDLERS,
    **models.HANDLERS,
    **keys.HANDLERS,
    **tokenize.HANDLERS,
    **sample.HANDLERS,
    **files.HANDLERS,
    **batches.HANDLERS,
    **health.HANDLERS,
}
_NO_REFLECTION = "Reflection is off. Use the .proto files, or set reflection = true under [grpc] in leadline.toml."
_INSTEAD: Mapping[str, str] = {
    "xai_api.Image": "No model here makes images. Models.ListLanguageModels lists those that write.",
    "xai_api.Video": "No model here makes videos. Models.ListLanguageModels lists those that write.",
    "xai_api.Documents": "There is no document search here. Send what the model shall know in the messages.",
    "grpc.reflection.v1.ServerReflection": _NO_REFLECTION,
    "grpc.reflection.v1alpha.ServerReflection": _NO_REFLECTION,
    "collections.Collections": "There are no collections here. Send what the model shall know in the messages.",
}


def grpc_server(pipeline: Pipeline, *, reflects: bool) -> tuple[Any, Service]:
    """A server that listens nowhere yet, and what answers its calls. `reflects`: it tells holders of a key what methods
    there are."""
    handlers = {**HANDLERS, **reflection.HANDLERS} if reflects else HANDLERS
    service = Service(pipeline, handlers, keys.FOR_ANY_KEY, _INSTEAD)
    return grpc.aio.server(handlers=(service,), options=OPTIONS), service
