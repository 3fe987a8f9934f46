"""What a model wrote becomes a tree of few elements, whatever it wrote."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.console.playground.rich_text import LONGEST, rich_text
from tests.console.payloads import PAYLOADS

TAGS = {
    *("p", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "hr", "br"),
    *("table", "thead", "tbody", "tr", "th", "td", "strong", "em", "s", "a", "code"),
}
# A text that is repeated to its bound: what begins quadratic things, in blocks and in lines.
REPEATED = (
    *("[", "![", "*a ", "**a *b ", "`", "``` ", "> ", "- ", "<", "<a ", "&", "\\", "a](", "[a](<b", "[a]: <b\n"),
    *("|a|\n|-|\n", "1. ", "_a_b", "~~a", "<!--", "[a][b", "\n\n# "),
)


def nodes_of(tree: list[Any]) -> Iterator[list[Any]]:
    for node in tree:
        if isinstance(node, list):
            yield node
            yield from nodes_of(node[2:])


def text_of(tree: list[Any]) -> str:
    return "".join(node if isinstance(node, str) else text_of(node[2:]) for node in tree)


def assert_harmless(tree: list[Any]) -> None:
    for tag, attributes, *_ in nodes_of(tree):
        assert tag in TAGS
        assert attributes.keys() <= {"href", "start", "right", "language"}
        if "href" in attributes:
            assert attributes["href"].lower().startswith(("http:", "https:", "mailto:"))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a *b* **c**", ["p", {}, "a ", ["em", {}, "b"], " ", ["strong", {}, "c"]]),
        ("~~a~~ `b`", ["p", {}, ["s", {}, "a"], " ", ["code", {}, "b"]]),
        ("# One", ["h3", {}, "One"]),
        ("###### Six", ["h6", {}, "Six"]),
        ("- a\n- b", ["ul", {}, ["li", {}, "a"], ["li", {}, "b"]]),
        ("3. a", ["ol", {"start": 3}, ["li", {}, "a"]]),
        ("> a", ["blockquote", {}, ["p", {}, "a"]]),
        ("```python\na = 1\n```", ["pre", {"language": "python"}, "a = 1"]),
        ("a\nb", ["p", {}, "a", "\n", "b"]),
        ("a  \nb", ["p", {}, "a", ["br", {}], "b"]),
        ("---", ["hr", {}]),
        ("[a](https://example.com)", ["p", {}, ["a", {"href": "https://example.com"}, "a"]]),
        ("[a](/keys)", ["p", {}, ["a", {}, "a"]]),
        ("![a](https://example.com/b.png)", ["p", {}, ["a", {"href": "https://example.com/b.png"}, "picture: a"]]),
        ("<b>a</b>", ["p", {}, "<b>a</b>"]),
    ],
)  # fmt: skip
def test_markdown_is_what_readers_expect(text: str, tree: Any) -> None:
    assert rich_text(text) == [tree]


def test_a_table_has_its_numbers_at_the_right() -> None:
    [table] = rich_text("| a | b |\n|---|--:|\n| 1 | 2 |")

    assert table[2] == ["thead", {}, ["tr", {}, ["th", {}, "a"], ["th", {"right": True}, "b"]]]
    assert table[3] == ["tbody", {}, ["tr", {}, ["td", {}, "1"], ["td", {"right": True}, "2"]]]


def test_there_are_three_hundred_hostile_texts() -> None:
    assert len(set(PAYLOADS)) >= 300


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_hostile_text_becomes_more_than_it_may(payload: str) -> None:
    assert_harmless(rich_text(payload))


@given(st.text(alphabet=st.sampled_from("ab*_`~#>-+|[]()<>!\\&;:\"'=/.\n\t 01"), max_size=300))
def test_no_text_at_all_becomes_more_than_it_may(text: str) -> None:
    assert_harmless(rich_text(text))


def test_what_is_too_long_is_shown_as_it_is() -> None:
    text = "*a* " * LONGEST

    assert rich_text(text) == [["p", {}, text]]


@pytest.mark.slow
@pytest.mark.parametrize("piece", REPEATED)
def test_whatever_is_repeated_to_the_bound_is_read(piece: str) -> None:
    """What takes longer than its length squared would not come to an end here."""
    assert_harmless(rich_text((piece * LONGEST)[:LONGEST]))


def test_more_brackets_than_anybody_writes_are_shown_as_they_are() -> None:
    assert rich_text("[" * 2_000) == [["p", {}, "[" * 2_000]]
