"""A tiny BERT encoder, as it is published, and what it makes of tokens by the definition of BERT: an oracle that shares
nothing with what it judges."""

import json
import math
import random
import struct
from dataclasses import dataclass, field

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "the", "mat", "##s", "##ting", "sit", "on", "é", "caf"]
WIDTH, WIDER, LAYERS, HEADS, LONGEST = 32, 64, 2, 4, 16

Row = list[float]
Matrix = list[Row]


@dataclass
class TinyBert:
    """Random weights, the same ones for the same seed; each is exact in 16 bits."""

    seed: int = 0
    tensors: dict[str, Matrix | Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._matrix("embeddings.word_embeddings.weight", len(WORDS), WIDTH)
        self._matrix("embeddings.position_embeddings.weight", LONGEST, WIDTH)
        self._matrix("embeddings.token_type_embeddings.weight", 2, WIDTH)
        self._norm("embeddings.LayerNorm")
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            for name in ("attention.self.query", "attention.self.key", "attention.self.value"):
                self._linear(f"{at}.{name}", WIDTH, WIDTH)
            self._linear(f"{at}.attention.output.dense", WIDTH, WIDTH)
            self._norm(f"{at}.attention.output.LayerNorm")
            self._linear(f"{at}.intermediate.dense", WIDER, WIDTH)
            self._linear(f"{at}.output.dense", WIDTH, WIDER)
            self._norm(f"{at}.output.LayerNorm")
        # Encoders are published with it, and it has no part in their vectors.
        self._linear("pooler.dense", WIDTH, WIDTH)

    @property
    def config(self) -> bytes:
        return json.dumps(
            {
                **{"model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH, "intermediate_size": WIDER},
                **{"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "layer_norm_eps": 1e-12},
                **{"max_position_embeddings": LONGEST, "type_vocab_size": 2, "vocab_size": len(WORDS)},
            }
        ).encode()

    @property
    def vocabulary(self) -> bytes:
        return "".join(f"{word}\n" for word in WORDS).encode()

    @property
    def safetensors(self) -> bytes:
        """With the positions' numbers among the tensors, as older models have them."""
        head: dict[str, object] = {"__metadata__": {"format": "pt"}}
        data = struct.pack(f"<{LONGEST}q", *range(LONGEST))
        head["embeddings.position_ids"] = {"dtype": "I64", "shape": [1, LONGEST], "data_offsets": [0, len(data)]}
        for name, tensor in self.tensors.items():
            rows = [tensor] if isinstance(tensor[0], float) else tensor
            numbers = [number for row in rows for number in row]  # type: ignore[union-attr]
            shape = [len(tensor)] if rows[0] is tensor else [len(tensor), len(rows[0])]  # type: ignore[arg-type]
            piece = struct.pack(f"<{len(numbers)}f", *numbers)
            head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(piece)]}
            data += piece
        encoded = json.dumps(head).encode()
        return struct.pack("<Q", len(encoded)) + encoded + data

    def vector(self, tokens: list[int]) -> Row:
        """The mean over the tokens' last states, one long."""
        states = [
            self._normed("embeddings.LayerNorm", [a + b + c for a, b, c in zip(word, place, kind, strict=True)])
            for word, place, kind in zip(
                (self._rows("embeddings.word_embeddings")[token] for token in tokens),
                self._rows("embeddings.position_embeddings"),
                [self._rows("embeddings.token_type_embeddings")[0]] * len(tokens),
                strict=False,
            )
        ]
        for layer in range(LAYERS):
            states = self._layer(f"encoder.layer.{layer}", states)
        mean = [sum(column) / len(states) for column in zip(*states, strict=True)]
        length = math.hypot(*mean)
        return [number / length for number in mean]

    def _layer(self, at: str, states: Matrix) -> Matrix:
        queries, keys, values = (
            [self._through(f"{at}.attention.self.{name}", state) for state in states]
            for name in ("query", "key", "value")
        )
        out = []
        for state, query in zip(states, queries, strict=True):
            seen = [part for head in range(HEADS) for part in _attended(head, query, keys, values)]
            said = self._through(f"{at}.attention.output.dense", seen)
            middle = self._normed(f"{at}.attention.output.LayerNorm", _sum(state, said))
            wide = [
                0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in self._through(f"{at}.intermediate.dense", middle)
            ]
            out.append(self._normed(f"{at}.output.LayerNorm", _sum(middle, self._through(f"{at}.output.dense", wide))))
        return out

    def _through(self, name: str, row: Row) -> Row:
        bias: Row = self.tensors[f"{name}.bias"]  # type: ignore[assignment]
        return [
            sum(a * b for a, b in zip(weights, row, strict=True)) + shift
            for weights, shift in zip(self._rows(name), bias, strict=True)
        ]

    def _normed(self, name: str, row: Row) -> Row:
        mean = sum(row) / len(row)
        spread = math.sqrt(sum((x - mean) ** 2 for x in row) / len(row) + 1e-12)
        scale, shift = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return [(x - mean) / spread * a + b for x, a, b in zip(row, scale, shift, strict=True)]  # type: ignore[operator]

    def _rows(self, name: str) -> Matrix:
        return self.tensors[f"{name}.weight"]  # type: ignore[return-value]

    def _matrix(self, name: str, rows: int, columns: int) -> None:
        self.tensors[name] = [self._row(columns) for _ in range(rows)]

    def _linear(self, name: str, rows: int, columns: int) -> None:
        self._matrix(f"{name}.weight", rows, columns)
        self.tensors[f"{name}.bias"] = self._row(rows)

    def _norm(self, name: str) -> None:
        self.tensors[f"{name}.weight"] = [1 + x for x in self._row(WIDTH)]
        self.tensors[f"{name}.bias"] = self._row(WIDTH)

    def _row(self, count: int) -> Row:
        return [self._random.randint(-256, 256) / 512 for _ in range(count)]


def _attended(head: int, query: Row, keys: Matrix, values: Matrix) -> Row:
    size = WIDTH // HEADS
    part = slice(head * size, (head + 1) * size)
    scores = [sum(a * b for a, b in zip(query[part], key[part], strict=True)) / math.sqrt(size) for key in keys]
    weights = [math.exp(score - max(scores)) for score in scores]
    return [
        sum(weight * value[place] for weight, value in zip(weights, values, strict=True)) / sum(weights)
        for place in range(part.start, part.stop)
    ]


def _sum(one: Row, other: Row) -> Row:
    return [a + b for a, b in zip(one, other, strict=True)]
