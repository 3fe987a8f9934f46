"""Makes a small GGUF file whose matrix is of the type Q4_1."""

import struct

from tests.scripted.gguf import SMALL, string, value

F32, Q4_1 = 0, 3
WIDTH, ROWS = 64, 3
SCALE, LEAST = 0.5, -4.0
# Blocks of 32 numbers: a scale and the least one in 16 bits each, then two steps in each byte.
BLOCK = struct.pack("<ee16B", SCALE, LEAST, *range(0, 256, 16))
NUMBERS = [LEAST + SCALE * (byte & 15) for byte in range(0, 256, 16)]
NUMBERS += [LEAST + SCALE * (byte >> 4) for byte in range(0, 256, 16)]
NORM = struct.pack("<8f", *range(8))


def q4_1_file() -> bytes:
    entries = b"".join(string(key) + value(said) for key, said in SMALL.items())
    tensors = string("blk.0.attn_norm.weight") + struct.pack("<IQIQ", 1, 8, F32, 0)
    tensors += string("blk.0.ffn_up.weight") + struct.pack("<IQQIQ", 2, WIDTH, ROWS, Q4_1, len(NORM))
    head = struct.pack("<4sIQQ", b"GGUF", 3, 2, len(SMALL)) + entries + tensors
    return head + bytes(-len(head) % 32) + NORM + BLOCK * (ROWS * WIDTH // 32)
