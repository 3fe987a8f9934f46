"""What counts as an e-mail address. One mailbox has one spelling here, and whoever reads it as a header of a mail finds
this one address in it.

That is narrower than RFC 5322: no quoted names, comments, groups, lists or encoded words (RFC 2047), nothing that is
written in another form than its compatibility form (NFKC), and no domain with other dots than `.`.
"""

import re
import unicodedata

_LONGEST_LOCAL, _LONGEST_DOMAIN, _LONGEST_LABEL = 64, 253, 63
# What may stand beside letters and digits before the @: atoms of RFC 5322, with single dots between them.
_SIGNS = frozenset("!#$%&'*+-/=?^_`{|}~")
_ENCODED_WORD = re.compile(r"=\?|\?=")


def is_email(text: str) -> bool:
    """Whether a text without capitals and without space around it is an address."""
    local, at, domain = text.partition("@")
    if not at or not text.isprintable() or unicodedata.normalize("NFKC", text) != text:
        return False
    if len(local) > _LONGEST_LOCAL or len(domain) > _LONGEST_DOMAIN or _ENCODED_WORD.search(local):
        return False
    return all(map(_is_atom, local.split("."))) and all(map(_is_label, domain.split(".")))


def _is_atom(text: str) -> bool:
    return text != "" and all(_is_letter(one) or one in _SIGNS for one in text)


def _is_label(text: str) -> bool:
    inside = all(_is_letter(one) or one == "-" for one in text)
    return inside and 1 <= len(text) <= _LONGEST_LABEL and not text.startswith("-") and not text.endswith("-")


def _is_letter(one: str) -> bool:
    """A letter, a digit, or a mark that belongs to one."""
    return one.isalnum() or unicodedata.category(one).startswith("M")
