"""Pages are made as the policy wants them, and of all that they need."""

import re
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest

import leadline.console
from leadline.console.navigation import NAVIGATION
from leadline.console.render import render
from leadline.money import usd
from tests.console.gallery import NORTHWIND, Credits, Member, Visitor, page

TEMPLATES = sorted((Path(leadline.console.__file__).parent / "templates").glob("*.html"))
_FORBIDDEN = re.compile(
    r"<style\b|\sstyle=|\son[a-z]+=\"|javascript:|<script(?![^>]*\ssrc=\"\{\{ static)(?![^>]*application/json)"
)


def shown(visit, template="example.html", **context):
    return page(template, visit, **context).body.decode()


def rail(text):
    return re.findall(r'<li><a href="([^"]+)"', text[text.index("<aside") : text.index("</aside>")])


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_what_the_policy_blocks(template):
    assert _FORBIDDEN.findall(template.read_text("utf-8")) == []


@pytest.mark.parametrize("text", ['<p style="a">', '<a onclick="a()">', "<script>", '<script src="//cdn">', "<style>"])
def test_what_the_policy_blocks_is_found(text):
    assert _FORBIDDEN.search(text)


def test_what_a_page_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render("start.html", grpc_address=None)


def test_texts_of_people_are_no_markup():
    hostile = "<script>alert(1)</script>\"'>"
    member = Member("org_1", hostile)
    text = shown(Visitor(organisation=member, organisations=(member,), notices=[("good", hostile)]))
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&gt;") == 2


def test_each_role_sees_the_places_it_may_open():
    admin, viewer = Visitor(), Visitor(organisation=replace(NORTHWIND, role="viewer"), is_admin=False)
    everything = [place.path for group in NAVIGATION for place in group.places]
    assert rail(shown(admin)) == everything
    assert rail(shown(viewer)) == [
        path for path in everything if not path.startswith("/admin/") and path != "/playground"
    ]


def test_the_place_of_the_page_is_marked():
    assert re.findall(r'<li><a href="([^"]+)" aria-current="page"', shown(Visitor(page="usage"))) == ["/usage"]


def test_low_credits_are_told_on_every_page_with_what_helps():
    low = Credits(usd("0.42"), usd(50), 0, 1, low=True)
    assert "Credits are low" not in shown(Visitor())
    text = shown(Visitor(balance=low))
    assert "Credits are low" in text
    assert "$0.42 left. Once nothing is left, requests are refused." in text
    assert "Nothing is left, so requests are refused." in shown(Visitor(balance=replace(low, available_ticks=0)))


@pytest.mark.parametrize(
    ("days", "told"),
    [(None, "Not much used yet"), (0, "Less than a day left"), (1, "About 1 day left"), (9, "9 days left")],
)
def test_the_rail_says_how_long_credits_last(days, told):
    assert told in shown(Visitor(balance=Credits(days_left=days)))


def test_with_one_organisation_there_is_nothing_to_switch():
    assert 'action="/organisation"' in shown(Visitor())
    assert 'action="/organisation"' not in shown(Visitor(organisations=(NORTHWIND,)))


@pytest.mark.parametrize("code", [400, 403, 404, 410, 429, 500])
def test_errors_are_told_within_the_console_or_alone(code):
    alone, within = (
        shown(None, "error.html", code=code),
        shown(Visitor(), "error.html", code=code, title="Oh", text="No"),
    )
    assert 'href="/login"' in alone
    assert '<aside class="rail"' in within
    assert "<h1>Oh</h1>" in within


def test_the_start_page_names_the_addresses_that_there_are():
    text = render("start.html", base_url="https://api.example", grpc_address="api.example:8081")
    assert "https://api.example/v1</code>" in text
    assert "api.example:8081</code>" in text
    assert "gRPC" not in render("start.html", base_url="https://api.example", grpc_address=None)


def test_a_meter_is_drawn_without_styles_and_says_its_value():
    text = shown(Visitor())
    assert 'aria-valuenow="85"><rect width="100%" height="100%"/><rect class="used" width="85%"' in text
    assert 'class="meter warn small"' in text
    assert 'class="meter bad small"' in text


def test_the_gallery_shows_each_macro():
    [macros] = [path for path in TEMPLATES if path.name == "macros.html"]
    names = re.findall(r"{% macro ([a-z]\w*)\(", macros.read_text("utf-8"))
    frame = [path for path in TEMPLATES if path.name in ("base.html", "plain.html", "start.html")]
    shown_in = [*(Path(__file__).parents[2] / "console/templates").glob("*.html"), *frame]
    text = "\n".join(path.read_text("utf-8") for path in shown_in)
    assert [name for name in names if not re.search(rf"(?<![\w]){name}\(", text)] == []
