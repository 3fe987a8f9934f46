"""The seed documents are the ones that define the product, and no block of theirs is forgotten."""

import pytest

from tests.conformance.seeds import test_blocks
from tests.conformance.seeds.blocks import BLOCKS, HASHES, QUICKSTART_GAP, QUICKSTART_ROWS, hash_of, text_of

LANGUAGES = {"bash (Mac)": "bash", "bash": "bash", "javascript": "javascript", "python": "python", "json": "json"}


@pytest.mark.parametrize("document", HASHES)
def test_a_seed_is_unchanged(document):
    assert hash_of(document) == HASHES[document]


def test_the_quickstarts_table_has_a_row_for_every_line_that_names_a_language():
    lines = text_of("xai-quickstart.md").splitlines()
    named = [(number, LANGUAGES[line]) for number, line in enumerate(lines, 1) if line in LANGUAGES]
    assert [(first - QUICKSTART_GAP, language) for first, _, language in QUICKSTART_ROWS] == named
    assert all(lines[first - 2] == "" and lines[first - 1] and lines[last - 1] for first, last, _ in QUICKSTART_ROWS)


def test_the_reference_is_cut_at_all_its_fences():
    fences = sum(line.startswith("```") for line in text_of("xai-reference.md").splitlines())
    assert fences == 2 * sum(name.startswith("reference:") for name in BLOCKS)


def test_every_block_is_shown_by_exactly_one_test():
    assert sorted(test_blocks.SHOWN) == sorted(BLOCKS)
