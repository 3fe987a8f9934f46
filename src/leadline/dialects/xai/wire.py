"""How many fields a message has, before it is unpacked: one may take two bytes on the wire, and a hundred in memory."""

from google.protobuf.descriptor import Descriptor

from leadline.errors import InvalidRequest

MOST_FIELDS = 200_000
_SMALLEST_FIELD_BYTES = 2
_SCALAR_BYTES = {1: 8, 5: 4}


def refuse_crowds(content: bytes, kind: Descriptor) -> None:
    """InvalidRequest where `content`, a message of this kind, has too many fields, those of its messages included.
    Whether it is one at all, the parser finds out."""
    if len(content) > MOST_FIELDS * _SMALLEST_FIELD_BYTES and _count(content, kind) > MOST_FIELDS:
        raise InvalidRequest(f"The message has more than {MOST_FIELDS} fields. Send less at once.")


def _count(content: bytes, kind: Descriptor) -> int:
    """The fields, counted no further than is needed to know that they are too many."""
    count, ahead = 0, [(0, len(content), kind)]
    while ahead and count <= MOST_FIELDS:
        at, end, kind = ahead.pop()
        fields = kind.fields_by_number
        while at < end and count <= MOST_FIELDS:
            count += 1
            tag, at = _varint(content, at)
            match tag & 7:
                case 2:
                    size, at = _varint(content, at)
                    field = fields.get(tag >> 3)
                    if field is not None and field.message_type is not None:
                        ahead.append((at, min(at + size, end), field.message_type))
                    at += size
                case 0:
                    _, at = _varint(content, at)
                case wire_type if wire_type in _SCALAR_BYTES:
                    at += _SCALAR_BYTES[wire_type]
                case _:  # none that there is
                    at = end
    return count


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends."""
    if at < len(content) and content[at] < 128:
        return content[at], at + 1
    number = 0
    for place, byte in enumerate(content[at : at + 10]):
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number, at + place + 1
    return number, at + 10
