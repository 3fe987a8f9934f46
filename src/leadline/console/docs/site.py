"""The docs as a site: which page is at a path, filled for its reader, with what is beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from leadline.console.docs.contents import API, ENTRIES, GROUPS, PROTOS, Entry, written
from leadline.console.docs.markdown import Section
from leadline.console.docs.protos import LICENCE, Proto, protos
from leadline.console.docs.reader import Reader, marked
from leadline.console.docs.reference import Reference
from leadline.console.docs.search import Found, Indexed, find
from leadline.console.render import render


@dataclass(frozen=True, slots=True)
class Article:
    """A page. `html` is the fragment below its title, `toc` the headings in it: level, anchor, words. `entry` is its
    place in the navigation."""

    path: str
    title: str
    html: str
    toc: tuple[tuple[int, str, str], ...]
    entry: str
    previous: Entry | None = None
    following: Entry | None = None


class Docs:
    """All pages below /docs. `openapi` gives the API's description, as JSON; it is asked for when it is first needed.
    What differs from reader to reader is filled in at the end, so that each page is made once, whoever asks."""

    groups = GROUPS

    def __init__(self, openapi: Callable[[], bytes]) -> None:
        self._openapi = openapi

    @cached_property
    def reference(self) -> Reference:
        return Reference(self._openapi())

    def paths(self) -> list[str]:
        """Every page, but that of searches."""
        return [*(entry.path for entry in ENTRIES), *self.reference.paths, *(f"{PROTOS}/{name}" for name in protos())]

    def article(self, path: str, reader: Reader) -> Article | None:
        """None: there is no such page."""
        entry = next((entry for entry in ENTRIES if entry.path == path), None)
        if entry is not None and entry.file:
            page = written(entry.file)
            return self._filled(entry.path, page.title, page.html, page.sections, reader)
        if path == PROTOS:
            return self._filled(
                path,
                "Protocol buffers",
                marked(render("docs_protos.html", protos=protos().values(), licence=LICENCE)),
                (),
                reader,
            )
        if path == API or path.startswith(f"{API}/"):
            told = self.reference.page(path)
            return None if told is None else self._filled(path, told.title, told.html, told.sections, reader)
        return None

    def download(self, path: str) -> Proto | None:
        """The .proto file at a path such as `/docs/protos/xai/api/v1/chat.proto`."""
        return protos().get(path.removeprefix(f"{PROTOS}/"))

    def search(self, query: str) -> list[Found]:
        return find(query, self._index)

    @cached_property
    def _index(self) -> list[Indexed]:
        pages = [(entry.path, written(entry.file)) for entry in ENTRIES if entry.file]
        pages += [(path, page) for path in self.reference.paths if (page := self.reference.page(path))]
        return [
            Indexed(
                f"{path}#{section.anchor}" if section.anchor else path,
                page.title,
                section.title,
                section.text,
                section.code,
            )
            for path, page in pages
            for section in page.sections
        ]

    def _filled(self, path: str, title: str, html: str, sections: tuple[Section, ...], reader: Reader) -> Article:
        toc = tuple((one.level, one.anchor, reader.fill(one.title, quote=False)) for one in sections if one.anchor)
        top = next(entry for entry in ENTRIES if path == entry.path or path.startswith(f"{entry.path}/"))
        at = ENTRIES.index(top)
        return Article(
            path,
            title,
            reader.fill(html),
            toc,
            top.path,
            ENTRIES[at - 1] if at else None,
            ENTRIES[at + 1] if at + 1 < len(ENTRIES) else None,
        )
