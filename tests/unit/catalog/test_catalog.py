import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

import pytest

from leadline.catalog.catalog import SEED_ALIASES, Catalog, build_catalog
from leadline.config import ConfigurationError, ModelSection, PriceSection
from leadline.engines.engine import Engine, ModelFacts
from leadline.errors import ModelNotFound


@dataclass
class FakeEngine:
    """An engine that only tells what it knows."""

    known: ModelFacts = field(default_factory=lambda: ModelFacts(None))

    def facts(self, model: str) -> ModelFacts:
        return self.known


def catalog_of(*sections: ModelSection, facts: ModelFacts | None = None) -> Catalog:
    engine = cast(Engine, FakeEngine(facts or ModelFacts(None)))
    return build_catalog(sections, {"gpu": engine}, created_at=1)


def model(name: str, *aliases: str, **settings: Any) -> ModelSection:
    return ModelSection(name=name, engine="gpu", aliases=aliases, **settings)


def test_a_model_is_found_by_its_name_and_by_its_aliases() -> None:
    catalog = catalog_of(model("mock", "mock-latest"), model("other"))

    assert [catalog.find(name).name for name in ("mock", "mock-latest", "other")] == ["mock", "mock", "other"]


def test_a_name_goes_before_an_alias_and_the_longest_wildcard_before_the_others() -> None:
    catalog = catalog_of(
        model("any", "*"),
        model("claude", "claude-*", "small"),
        model("opus", "claude-opus-*"),
        model("small"),
        model("pinned", "claude-opus-4"),
    )

    found = {name: catalog.find(name).name for name in ("claude-haiku", "claude-opus-3", "claude-opus-4", "small", "x")}

    assert found == {
        "claude-haiku": "claude",
        "claude-opus-3": "opus",
        "claude-opus-4": "pinned",
        "small": "small",
        "x": "any",
    }


def test_an_unknown_model_is_named_but_never_repeated_at_length() -> None:
    with pytest.raises(ModelNotFound, match=r"The model 'x+' does not exist") as refused:
        catalog_of(model("mock")).find("x" * 1_000_000)

    assert len(str(refused.value)) < 400


def test_the_first_chat_model_answers_to_the_names_in_the_documents() -> None:
    catalog = catalog_of(model("embedder", capabilities=("embeddings",)), model("first"), model("second"))

    assert {catalog.find(name).name for name in SEED_ALIASES} == {"first"}
    assert catalog.find("second").aliases == ()


def test_a_model_that_declares_no_capability_is_no_chat_model() -> None:
    catalog = catalog_of(model("nothing", capabilities=()), model("chat", capabilities=("chat",)))

    assert catalog.find("grok-beta").name == "chat"


def test_names_that_the_file_gives_away_stay_where_it_put_them() -> None:
    catalog = catalog_of(model("first"), model("second", "grok-beta", "grok-2-*"), model("grok-2"))

    found = [catalog.find(name).name for name in SEED_ALIASES]

    assert dict(zip(SEED_ALIASES, found, strict=True)) == {
        "grok-beta": "second",
        "grok-2-latest": "second",
        "grok-2": "grok-2",
        "grok-2-vision-latest": "second",
    }


def test_a_price_with_five_decimals_is_refused_with_its_model() -> None:
    with pytest.raises(ConfigurationError, match=r"^model 'mock': 0\.00001 USD .* more than four decimals\.$"):
        catalog_of(model("mock", prices=PriceSection(input=Decimal("0.00001"))))


@pytest.mark.parametrize(
    ("configured", "known", "context"),
    [(None, None, None), (100, None, 100), (None, 200, 200), (100, 200, 100), (300, 200, 200)],
)
def test_the_context_is_the_smaller_of_what_file_and_engine_say(
    configured: int | None, known: int | None, context: int | None
) -> None:
    catalog = catalog_of(model("mock", context_tokens=configured), facts=ModelFacts(known))

    assert catalog.find("mock").context == context


def test_the_engine_says_what_a_model_can_do_unless_the_file_does() -> None:
    facts = ModelFacts(None, frozenset({"chat", "tools"}))
    catalog = catalog_of(model("as-it-is"), model("declared", capabilities=("chat", "vision")), facts=facts)

    assert catalog.find("as-it-is").capabilities == {"chat", "tools"}
    assert catalog.find("declared").capabilities == {"chat", "vision"}


def test_the_fingerprint_changes_with_whatever_changes_answers_and_with_nothing_else() -> None:
    weights, other_weights = (ModelFacts(100, fingerprint=(digest, "llama.cpp 1")) for digest in ("sha a", "sha b"))
    before = catalog_of(model("mock"), facts=weights).find("mock").fingerprint

    renamed = catalog_of(model("renamed", "alias", prices=PriceSection(input=Decimal(1))), facts=weights)
    shortened = catalog_of(model("mock", context_tokens=50), facts=weights)
    exchanged = catalog_of(model("mock"), facts=other_weights)

    assert re.fullmatch(r"fp_[0-9a-f]{10}", before)
    assert renamed.find("renamed").fingerprint == before
    assert len({before, shortened.find("mock").fingerprint, exchanged.find("mock").fingerprint}) == 3
