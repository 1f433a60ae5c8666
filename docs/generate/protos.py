"""The reference of the wire, from the comments of the protos."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from docs.generate.markdown import code, table

_ROOT: Final = Path(__file__).parents[2]
_INTRODUCTION: Final = """# Protos

What crosses the wire, from the comments of `protos/v1/*.proto`. Bytes of the control planes
(`simulation`, `cloud_host`) are no traffic of a product and stand in no [ledger](../ledger.md).
"""
_FILES: Final = ("collaboration", "tensor", "simulation", "cloud_host")
"""The order of the page; files that are not among them come after."""
Comments = Mapping[tuple[int, ...], str]
# Field numbers of descriptor.proto, of which the paths of comments are made.
_MESSAGE, _ENUM, _SERVICE, _PACKAGE = 4, 5, 6, 2
_FIELD = _VALUE = _RPC = 2
_NESTED, _NESTED_ENUM = 3, 4


def page() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for file in sorted(_described(), key=_place):
        comments = {
            tuple(each.path): each.leading_comments.strip()
            for each in file.source_code_info.location
        }
        parts.append(f"## {Path(file.name).name}\n\n{comments.get((_PACKAGE,), '')}\n")
        parts += _services(file, comments)
        parts += _messages(file, comments)
    return "\n".join(parts)


def _described() -> list[FileDescriptorProto]:
    """The protos of the project, with their comments, as protoc reads them."""
    names = sorted(str(path.relative_to(_ROOT)) for path in _ROOT.glob("protos/v1/*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "protos.binpb"
        options = ("-I.", "--include_source_info", f"--descriptor_set_out={out}")
        command = [sys.executable, "-m", "grpc_tools.protoc", *options, *names]
        subprocess.run(command, cwd=_ROOT, check=True)
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def _place(file: FileDescriptorProto) -> int:
    name = Path(file.name).stem
    return _FILES.index(name) if name in _FILES else len(_FILES)


def _services(file: FileDescriptorProto, comments: Comments) -> Iterator[str]:
    for index, service in enumerate(file.service):
        path = (_SERVICE, index)
        rows = [
            (
                code(method.name),
                code("stream " * method.client_streaming + _short(method.input_type)),
                code("stream " * method.server_streaming + _short(method.output_type)),
                comments.get((*path, _RPC, place), ""),
            )
            for place, method in enumerate(service.method)
        ]
        about = comments.get(path, "")
        calls = table(("call", "takes", "gives", "what"), rows)
        yield f"### service {service.name}\n\n{about}\n\n{calls}"


def _messages(file: FileDescriptorProto, comments: Comments) -> Iterator[str]:
    for index, message in enumerate(file.message_type):
        yield from _message(message, (_MESSAGE, index), comments)
    for index, enum in enumerate(file.enum_type):
        rows = [
            (code(value.name), str(value.number), comments.get((_ENUM, index, _VALUE, place), ""))
            for place, value in enumerate(enum.value)
        ]
        about = comments.get((_ENUM, index), "")
        yield f"### {enum.name}\n\n{about}\n\n{table(('value', 'number', 'what'), rows)}"


def _message(message: DescriptorProto, path: tuple[int, ...], comments: Comments) -> Iterator[str]:
    if message.options.map_entry:
        return
    rows = [
        (
            code(field.name),
            str(field.number),
            code(_type(field)),
            comments.get((*path, _FIELD, place), ""),
        )
        for place, field in enumerate(message.field)
    ]
    fields = table(("field", "number", "type", "what"), rows) if rows else ""
    yield f"### {message.name}\n\n{comments.get(path, '')}\n\n{fields}"
    for index, nested in enumerate(message.nested_type):
        yield from _message(nested, (*path, _NESTED, index), comments)


def _type(field: FieldDescriptorProto) -> str:
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    name = _short(field.type_name) if field.type_name else kind
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return "repeated " * repeated + "optional " * field.proto3_optional + name


def _short(name: str) -> str:
    return name.rpartition(".")[2]
