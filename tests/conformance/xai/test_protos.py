"""The messages of the wire are those of xAI's SDK: the compiled protos come from their sources, and each field has the
number, the type and the label that the SDK's own has."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import google.rpc
import grpc_tools
import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from xai_sdk.proto import v6

from leadline.dialects.xai.protos import COMPILED, FILES, POOL

OURS = [name for name in FILES if name.startswith("xai/")]
# What the SDK brings, from its own pool.
THEIRS = {
    module.DESCRIPTOR.name: module.DESCRIPTOR
    for module in (
        importlib.import_module(f"{v6.__name__}.{found.name}")
        for found in pkgutil.iter_modules(v6.__path__)
        if found.name.endswith("_pb2")
    )
}


def test_the_compiled_protos_come_from_their_sources(tmp_path: Path):
    sources, built_in = COMPILED.parent, Path(grpc_tools.__file__).with_name("_proto")
    of_google = Path(next(iter(google.rpc.__path__))).parents[1]
    files = sorted(str(path.relative_to(sources)) for path in sources.rglob("*.proto"))
    out = tmp_path / "descriptors.binpb"
    includes = [f"-I{folder}" for folder in (sources, built_in, of_google)]
    arguments = [*includes, "--include_imports", f"--descriptor_set_out={out}", *files]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True, timeout=60)
    now, committed = (FileDescriptorSet.FromString(path.read_bytes()) for path in (out, COMPILED))
    by_name = [{file.name: file for file in made.file} for made in (now, committed)]
    assert by_name[0].keys() == by_name[1].keys()
    for name, file in by_name[0].items():
        assert file == by_name[1][name], f"{name} has changed: run `make protos`"


def test_the_sdk_has_no_file_that_is_missing_here():
    assert OURS
    assert {name for name in THEIRS if name.startswith("xai/")} == set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_every_message_enum_and_method_is_the_sdks(name: str):
    ours, theirs = POOL.FindFileByName(name), THEIRS[name]
    assert ours.package == theirs.package
    assert _messages(ours.message_types_by_name) == _messages(theirs.message_types_by_name)
    assert _enums(ours.enum_types_by_name) == _enums(theirs.enum_types_by_name)
    assert _services(ours) == _services(theirs)


def _messages(messages: Any) -> Any:
    return {name: _message(message) for name, message in messages.items()}


def _message(message: Descriptor) -> Any:
    fields = {
        field.name: (
            *(field.number, field.type, field.is_repeated, field.has_presence),
            field.message_type.full_name if field.message_type else field.enum_type and field.enum_type.full_name,
            field.containing_oneof and field.containing_oneof.name,
        )
        for field in message.fields
    }
    return fields, _messages(message.nested_types_by_name), _enums(message.enum_types_by_name)


def _enums(enums: Any) -> Any:
    return {name: _values(enum) for name, enum in enums.items()}


def _values(enum: EnumDescriptor) -> dict[str, int]:
    return {value.name: value.number for value in enum.values}


def _services(file: Any) -> Any:
    return {
        service.full_name: {
            method.name: (
                *(method.input_type.full_name, method.output_type.full_name),
                *(method.client_streaming, method.server_streaming),
            )
            for method in service.methods
        }
        for service in file.services_by_name.values()
    }
