"""gRPC's own services: health for holders of a key, and reflection where the settings allow it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2

from leadline.dialects.xai.protos import METHODS, POOL, health, message_class
from tests.scripted.server import ScriptedServer

_CHECK, _WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
_REFLECTION = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    server = ScriptedServer(tmp_path / "data")
    yield server
    server.stop()


@pytest.fixture
def telling(tmp_path: Path) -> Iterator[ScriptedServer]:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "leadline.toml").write_text("[grpc]\nreflection = true\n")
    server = ScriptedServer(data)
    yield server
    server.stop()


def _asked(server: ScriptedServer, path: str, *requests: Any) -> Iterator[Any]:
    method = METHODS[path]
    metadata = (("authorization", f"Bearer {server.api_key}"),)
    with grpc.insecure_channel(server.grpc_address) as channel:
        answers = channel.stream_stream(path)(
            iter([request.SerializeToString() for request in requests]), metadata=metadata, timeout=30
        )
        yield from map(message_class(method.output_type).FromString, answers)


def test_health_says_whether_a_model_can_answer(server: ScriptedServer) -> None:
    request = health.HealthCheckRequest(service="xai_api.Chat")
    assert next(_asked(server, _CHECK, request)).status == 1
    server.engine.ready = False
    assert next(_asked(server, _CHECK, request)).status == 2
    with pytest.raises(grpc.RpcError) as refused:
        next(_asked(server, _CHECK, health.HealthCheckRequest(service="nobody")))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_watch_hears_of_each_change_and_of_the_stop(tmp_path: Path) -> None:
    server = ScriptedServer(tmp_path / "data")
    states = _asked(server, _WATCH, health.HealthCheckRequest())
    assert next(states).status == 1
    server.engine.ready = False
    assert next(states).status == 2
    server.engine.ready = True
    assert next(states).status == 1
    server.stop()
    assert [state.status for state in states] == [2]


@pytest.mark.parametrize("path", _REFLECTION)
def test_reflection_tells_every_service_and_file(telling: ScriptedServer, path: str) -> None:
    kind = message_class(METHODS[path].input_type)
    services, by_symbol, by_name, unknown, extensions = _asked(
        telling,
        path,
        kind(list_services="*"),
        kind(file_containing_symbol="xai_api.Chat"),
        kind(file_by_filename="xai/api/v1/usage.proto"),
        kind(file_containing_symbol="xai_api.Nothing"),
        kind(all_extension_numbers_of_type="xai_api.Chat"),
    )
    names = {service.name for service in services.list_services_response.service}
    assert names == {method.containing_service.full_name for method in METHODS.values()}
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(file)
        for file in by_symbol.file_descriptor_response.file_descriptor_proto
    ]
    assert files[0].name == "xai/api/v1/chat.proto"
    imported = {name for file in files for name in file.dependency}
    assert imported <= {file.name for file in files}, "whoever asks has no other way to the imports"
    assert by_name.file_descriptor_response.file_descriptor_proto == [
        POOL.FindFileByName("xai/api/v1/usage.proto").serialized_pb
    ]
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert extensions.error_response.error_code == grpc.StatusCode.UNIMPLEMENTED.value[0]


@pytest.mark.parametrize("path", _REFLECTION)
def test_reflection_is_off_by_default(server: ScriptedServer, path: str) -> None:
    kind = message_class(METHODS[path].input_type)
    with pytest.raises(grpc.RpcError) as refused:
        next(_asked(server, path, kind(list_services="*")))
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "reflection = true" in refused.value.details()
