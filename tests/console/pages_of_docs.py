"""Pages of the docs as a browser would read them: links, ids and programs out of the HTML that a reader gets."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

_LANGUAGES = {
    **{"curl": "bash", "Shell": "bash", "Python": "python", "Anthropic": "python", "xai-sdk": "python"},
    "JavaScript": "javascript",
}


@dataclass(frozen=True)
class Program:
    """What a reader copies. `label` is its tab; one that cannot be run says why behind a colon."""

    label: str
    text: str

    @property
    def language(self) -> str:
        """'' where it is no program."""
        return _LANGUAGES.get(self.label.partition(":")[0], "")

    @property
    def illustrative(self) -> bool:
        return ":" in self.label


@dataclass
class Read(HTMLParser):
    """`text` is all that is seen."""

    html: str
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    attributes: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)
    programs: list[Program] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._label = self._code = ""
        self._in_pre = False
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.tags.add(tag)
        self.attributes |= told.keys()
        if "id" in told:
            self.ids.append(str(told["id"]))
        if tag == "a":
            self.links.append(str(told["href"]))
        elif "src" in told or "href" in told:
            self.loads.append(str(told.get("src") or told.get("href")))
        if tag == "pre":
            self._label, self._code, self._in_pre = str(told["aria-label"]), "", True

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self.programs.append(Program(self._label, self._code))
            self._in_pre = False
        if tag in ("td", "th", "p", "li", "h2", "h3"):
            self.text += "\n"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_pre:
            self._code += data
