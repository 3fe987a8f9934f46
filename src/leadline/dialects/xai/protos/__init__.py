"""The messages of xAI's gRPC API, from `descriptors.binpb`, which `make protos` compiles from the files beside it.

They live in a pool of their own: a program may load xAI's SDK, whose files have the same names, beside this server.
Messages are made by the protobuf library, so their types are not known to a type checker.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

COMPILED = Path(__file__).with_name("descriptors.binpb")


def _pool() -> tuple[DescriptorPool, tuple[str, ...]]:
    files = descriptor_pb2.FileDescriptorSet.FromString(COMPILED.read_bytes()).file
    pool = DescriptorPool()
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    return pool, tuple(file.name for file in files)


POOL, FILES = _pool()


def message_class(descriptor: Descriptor) -> Any:
    return message_factory.GetMessageClass(descriptor)


def _file(name: str) -> Any:
    """The messages and enum values of a file, by their names."""
    file = POOL.FindFileByName(name)
    messages = {name: message_class(descriptor) for name, descriptor in file.message_types_by_name.items()}
    values = {
        name: value.number for enum in file.enum_types_by_name.values() for name, value in enum.values_by_name.items()
    }
    return SimpleNamespace(**messages, **values)


def _methods() -> dict[str, MethodDescriptor]:
    """Every method of the API by its path, such as `/xai_api.Chat/GetCompletion`."""
    services = [service for name in FILES for service in POOL.FindFileByName(name).services_by_name.values()]
    methods = [method for service in services for method in service.methods_by_name.values()]
    return {f"/{method.containing_service.full_name}/{method.name}": method for method in methods}


METHODS = _methods()
auth = _file("xai/api/v1/auth.proto")
batch = _file("xai/api/v1/batch.proto")
chat = _file("xai/api/v1/chat.proto")
deferred = _file("xai/api/v1/deferred.proto")
embed = _file("xai/api/v1/embed.proto")
files = _file("xai/api/v1/files.proto")
health = _file("grpc/health/v1/health.proto")
image = _file("xai/api/v1/image.proto")
models = _file("xai/api/v1/models.proto")
sample = _file("xai/api/v1/sample.proto")
tokenize = _file("xai/api/v1/tokenize.proto")
usage = _file("xai/api/v1/usage.proto")
status = _file("google/rpc/status.proto")
empty = _file("google/protobuf/empty.proto")
