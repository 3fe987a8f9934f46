"""A vector in base64: of little-endian 32-bit floats, as all SDKs read it."""

import sys
from array import array
from base64 import b64encode


def base64_of(vector: "array[float]") -> str:
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return b64encode(vector).decode()
