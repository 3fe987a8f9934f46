"""A refusal from the inside names the field as its endpoint does."""

import pytest

from leadline.dialects.field_names import naming
from leadline.errors import InvalidRequest

FIELDS = {"tools[].function.parameters": "tools[].input_schema", "messages": "input"}


@pytest.mark.parametrize(
    ("message", "param", "named"),
    [
        (
            "tools[12].function.parameters.type: no.",
            "tools[12].function.parameters",
            ("tools[12].input_schema.type: no.", "tools[12].input_schema"),
        ),
        ("messages: no.", "messages", ("input: no.", "input")),
        ("messages of yours are long.", "messages", ("messages of yours are long.", "input")),
        ("messages[0].content: no.", "messages[0].content", ("messages[0].content: no.", "messages[0].content")),
        ("tools: no.", "tools", ("tools: no.", "tools")),
        ("no.", None, ("no.", None)),
    ],
)
def test_a_field_is_called_as_its_endpoint_calls_it(message, param, named):
    with pytest.raises(InvalidRequest) as refused, naming(FIELDS):
        raise InvalidRequest(message, param)
    assert (str(refused.value), refused.value.param) == named
