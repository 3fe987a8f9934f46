"""gRPC's server reflection, both versions: which services there are and what their messages hold. Only by setting, and
only for a key: tools such as grpcurl then need no .proto files."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from grpc import StatusCode

from leadline.dialects.xai.protos import METHODS, POOL, message_class
from leadline.dialects.xai.rpc import Rpc

PATHS = tuple(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha"))


async def server_reflection_info(rpc: Rpc, requests: AsyncIterator[Any]) -> None:
    answer_class = message_class(METHODS[rpc.path].output_type)
    async for request in requests:
        answer = answer_class(valid_host=request.host, original_request=request)
        _fill(answer, request)
        await rpc.write(answer)


def _fill(answer: Any, request: Any) -> None:
    kind = request.WhichOneof("message_request")
    try:
        if kind == "list_services":
            for name in sorted({method.containing_service.full_name for method in METHODS.values()}):
                answer.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            _add_file(answer, POOL.FindFileByName(request.file_by_filename))
        elif kind == "file_containing_symbol":
            _add_file(answer, POOL.FindFileContainingSymbol(request.file_containing_symbol))
        else:
            _refuse(answer, StatusCode.UNIMPLEMENTED, "These messages have no extensions.")
    except KeyError:
        _refuse(answer, StatusCode.NOT_FOUND, "There is no such file or symbol.")


def _add_file(answer: Any, file: FileDescriptor) -> None:
    """The file and all that it imports, each once."""
    files = {found.name: found for found in _with_imports(file)}
    answer.file_descriptor_response.file_descriptor_proto.extend(found.serialized_pb for found in files.values())


def _with_imports(file: FileDescriptor) -> Iterator[FileDescriptor]:
    yield file
    for imported in file.dependencies:
        yield from _with_imports(imported)


def _refuse(answer: Any, code: StatusCode, message: str) -> None:
    answer.error_response.error_code, answer.error_response.error_message = code.value[0], message


HANDLERS = dict.fromkeys(PATHS, server_reflection_info)
