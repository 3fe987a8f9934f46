"""The files that pages load, as they are served."""

import gzip
import hashlib
import re
import tomllib
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import leadline.console
from leadline.console.static import ASSETS, ICONS, Assets, serve_static

CONSOLE = Path(leadline.console.__file__).parent
VENDORED = tomllib.loads((CONSOLE / "static/vendor/VENDORED.toml").read_text("utf-8"))["package"]


@pytest.fixture
def client():
    return TestClient(serve_static)


def test_a_file_is_served_forever_under_its_digest(client):
    answer = client.get(ASSETS.url("app.css"))
    assert answer.status_code == 200
    assert answer.content == (CONSOLE / "static/app.css").read_bytes()
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_under_another_digest_todays_file_is_not_kept(client):
    answer = client.get("/static/0123456789ab/app.css")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


def test_the_digest_changes_with_each_byte():
    digests = {Assets(bodies).digest for bodies in ({"a.css": b"1"}, {"a.css": b"2"}, {"b.css": b"1"})}
    assert len(digests) == 3


def test_whoever_takes_gzip_gets_it(client):
    plain = client.get(ASSETS.url("app.js"), headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with client.stream("GET", ASSETS.url("app.js"), headers={"accept-encoding": "br, gzip;q=0.8"}) as packed:
        body = b"".join(packed.iter_raw())
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == plain.content
    assert packed.headers["etag"] != plain.headers["etag"]
    assert plain.headers["vary"] == packed.headers["vary"] == "accept-encoding"
    refused = client.get(ASSETS.url("app.js"), headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


def test_what_the_browser_has_is_not_sent_again(client):
    etag = client.get(ASSETS.url("theme.js")).headers["etag"]
    again = client.get(ASSETS.url("theme.js"), headers={"if-none-match": f'"another", {etag}'})
    assert (again.status_code, again.content) == (304, b"")


def test_head_says_what_get_would(client):
    got, head = client.get(ASSETS.url("favicon.svg")), client.head(ASSETS.url("favicon.svg"))
    assert head.content == b""
    assert {**head.headers} == {**got.headers}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "nothing.css",
            "APP.CSS",
            "../static.py",
            "..%2fstatic.py",
            "%2e%2e/static.py",
            "app.css/",
            "/etc/passwd",
        ),
        *("vendor/VENDORED.toml", "fonts/geist-mono.LICENSE", "vendor"),
    ],
)
def test_nothing_but_known_files_is_served(client, name):
    answer = client.get(f"/static/{ASSETS.digest}/{name}")
    assert answer.status_code == 404
    assert "immutable" not in answer.headers["cache-control"]


def test_files_are_only_read(client):
    answer = client.post(ASSETS.url("app.css"))
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_page_cannot_name_a_file_that_is_not_there():
    with pytest.raises(KeyError):
        ASSETS.url("nothing.css")


def test_the_sprite_has_a_symbol_for_each_icon(client):
    sprite = client.get(ASSETS.url("icons.svg")).text
    assert set(re.findall(r'<symbol id="([a-z0-9-]+)"', sprite)) == ICONS
    assert {file.stem for file in (CONSOLE / "icons").glob("*.svg")} | {"logo"} == ICONS


def test_styles_name_only_files_that_are_served():
    for name in ("tokens.css", "app.css"):
        for file in re.findall(r"url\(([^)]+)\)", (CONSOLE / "static" / name).read_text("utf-8")):
            ASSETS.url(file)


def test_colours_are_in_the_tokens_alone():
    css = re.sub(r"/\*.*?\*/|mask: [^;]+;", "", (CONSOLE / "static/app.css").read_text("utf-8"), flags=re.DOTALL)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsla?\(|oklch\(", css) == []
    known = set(re.findall(r"^  (--[a-z0-9-]+):", (CONSOLE / "static/tokens.css").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"var\((--[a-z0-9-]+)", css)) - known == set()


@pytest.mark.parametrize("package", VENDORED, ids=lambda package: package["package"])
def test_files_of_other_packages_are_as_they_were_published(package):
    for path, digest in package["files"].items():
        assert hashlib.sha256((CONSOLE / path).read_bytes()).hexdigest() == digest, path
    assert (CONSOLE / package["licence_text"]).read_text("utf-8").strip()


def test_each_file_of_another_package_is_listed_and_told_of():
    listed = {path for package in VENDORED for path in package["files"]}
    folders = ("static/vendor/*.js", "static/vendor/*.css", "static/fonts/*.woff2", "icons/*.svg")
    there = {str(path.relative_to(CONSOLE)) for folder in folders for path in CONSOLE.glob(folder)}
    assert there == listed
    told = (Path(__file__).parents[3] / "THIRD_PARTY.md").read_text("utf-8")
    for package in VENDORED:
        assert f"| {package['package']} | {package['version']} | {package['licence']} |" in told
