"""Members, settings and the audit log, seen in a browser: in each state, by keyboard, with scripts and without."""

import re
from collections.abc import AsyncIterator, Iterator

import pyotp
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from tests.console.browser import Eyes
from tests.console.organisation import OWNERS_PASSWORD, People
from tests.console.visitor import PASSWORD
from tests.scripted.server import EMAIL, ScriptedServer

BOB = "bob@northwind.example"


@pytest.fixture(scope="module")
def northwind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    """An organisation in which something has happened."""
    server = ScriptedServer(tmp_path_factory.mktemp("northwind") / "data")
    people = People(server)
    alice = people.owner()
    people.member("developer", BOB, "Bob Lindqvist")
    people.member("viewer", "a-viewer-with-a-rather-long-address@research.northwind.example")
    alice.post("/members", email="dora@northwind.example", role="billing")
    alice.post("/members", email="emil@northwind.example", role="owner")
    alice.post("/settings/management-keys", {"acls": ["team-token:endpoint:*"]}, name="terraform")
    several = [f"team-token:endpoint:{one}" for one in ("ListApiKeys", "CreateApiKey", "DeleteApiKey")]
    alice.post("/settings/management-keys", {"acls": several, "ip_ranges": "203.0.113.0/24 ::1"}, name="rotation")
    alice.post("/keys", name="web", cap="20", models="echo")
    changes = (
        {"name": "before it was renamed", "cap": "$20.00 a month", "models": "echo"},
        {
            "name": "a name that is long enough to need a second line, or even a third one on a small telephone",
            "cap": None,
            "models": "echo, another-model-with-a-long-name, and-a-third-one",
        },
    )
    [key] = [one for one in server.instance.keys.of(server.organisation_id) if one.name == "web"]
    user = server.run(server.instance.users.find(EMAIL))
    assert user is not None
    actor = Actor(user.id, user.email, "2001:db8::77")
    row = audited(server.instance.keys.clock(), actor, "keys change", key.id, changes, server.organisation_id)
    server.run(server.instance.database.commit(row))
    yield server
    people.leave()
    server.stop()


async def _sign_in(page: Page, email: str, password: str) -> None:
    await page.goto("/login")
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/home")


@pytest_asyncio.fixture(loop_scope="session")
async def alice(browser: Eyes, northwind: ScriptedServer) -> AsyncIterator[Page]:
    """The owner, signed in."""
    async with browser.page(northwind.base_url) as page:
        await _sign_in(page, EMAIL, OWNERS_PASSWORD)
        yield page


@pytest_asyncio.fixture(loop_scope="session")
async def plain_alice(browser: Eyes, northwind: ScriptedServer) -> AsyncIterator[Page]:
    """The same in a browser that runs no scripts."""
    async with browser.page(northwind.base_url, scripts=False) as page:
        await _sign_in(page, EMAIL, OWNERS_PASSWORD)
        yield page


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/members", "members"),
        ("/settings", "settings"),
        ("/settings/organisation", "settings-organisation"),
        ("/settings/management-keys", "management-keys"),
        ("/audit", "audit"),
        ("/audit?text=nothing+is+like+this", "audit-nothing"),
        ("/organisation/new", "organisation-new"),
    ],
)
async def test_each_page_is_as_every_page_has_to_be_and_a_keyboard_reaches_all_of_it(
    alice: Page, browser: Eyes, path: str, name: str
) -> None:
    await alice.goto(path)
    await browser.look(alice, name)
    await browser.tab_through(alice)


@pytest.mark.parametrize(
    ("path", "name"), [("/members/invite", "members-invite"), ("/settings/management-keys/new", "management-keys-new")]
)
async def test_each_drawer_is_as_every_page_has_to_be(alice: Page, browser: Eyes, path: str, name: str) -> None:
    await alice.goto(path)
    await expect(alice.get_by_role("dialog")).to_be_visible()
    await browser.look(alice, name)
    await browser.tab_through(alice)


async def test_a_member_s_page_and_what_it_asks_before_it_removes_him(alice: Page, browser: Eyes) -> None:
    await alice.goto("/members")
    await alice.get_by_role("button", name="Actions for Bob Lindqvist").click()
    await browser.look(alice, "members-menu")
    await alice.get_by_role("link", name="Change the role").click()
    await expect(alice.get_by_role("heading", level=1)).to_have_text("Bob Lindqvist")
    await browser.look(alice, "member")
    await browser.tab_through(alice)
    await alice.get_by_role("button", name="Remove Bob Lindqvist").click()
    await expect(alice.get_by_role("dialog")).to_contain_text(f"{BOB} sees nothing of Northwind")
    await browser.look(alice, "member-remove")


async def test_the_last_owner_s_own_page(alice: Page, browser: Eyes) -> None:
    await alice.goto("/members")
    await alice.get_by_role("button", name=f"Actions for {EMAIL}").click()
    await alice.get_by_role("link", name="Leave").click()
    await expect(alice.get_by_text("You are the last owner of Northwind")).to_be_visible()
    await browser.look(alice, "member-last-owner")


async def test_an_invitation_s_link_and_the_page_to_which_it_leads(
    alice: Page, browser: Eyes, northwind: ScriptedServer
) -> None:
    await alice.goto("/members")
    await alice.get_by_role("link", name="Invite").click()
    await alice.get_by_label("E-mail").fill("frida@northwind.example")
    await alice.get_by_role("radio", name="Developer").check()
    await alice.get_by_role("dialog").get_by_role("button", name="Invite").click()
    await expect(alice.get_by_role("heading", level=1)).to_have_text("frida@northwind.example is invited")
    await browser.look(alice, "member-invited")
    link = await alice.locator("#link").inner_text()
    async with browser.page(northwind.base_url) as frida:
        await frida.goto(link[link.index("/invite") :])
        await expect(frida.get_by_role("heading", level=1)).to_have_text("Join Northwind")
        await browser.look(frida, "invite")
        await frida.get_by_label("Password").fill(PASSWORD)
        await frida.get_by_role("button", name="Create my account and join").click()
        await frida.wait_for_url("**/home")


async def test_a_wrong_invitation_stands_in_the_drawer_with_the_focus_on_the_field(alice: Page, browser: Eyes) -> None:
    await alice.goto("/members/invite")
    await alice.get_by_label("E-mail").fill(BOB)
    await alice.get_by_role("dialog").get_by_role("button", name="Invite").click()
    await expect(alice.get_by_text(f"{BOB} is a member already.")).to_be_visible()
    await expect(alice.get_by_label("E-mail")).to_be_focused()
    await expect(alice.get_by_label("E-mail")).to_have_value(BOB)
    await browser.look(alice, "members-invite-wrong", refused=True)


async def test_wrong_settings_have_the_focus_on_the_field_without_scripts_too(
    alice: Page, plain_alice: Page, browser: Eyes
) -> None:
    for page in (alice, plain_alice):
        await page.goto("/settings")
        await page.get_by_label("Present password").fill("it is not this one")
        await page.get_by_label("New password").fill("seven other words for tonight")
        await page.get_by_role("button", name="Change the password").click()
        await expect(page.get_by_text("This is not your password.")).to_be_visible()
        await expect(page.get_by_label("Present password")).to_be_focused()
    await browser.look(alice, "settings-wrong", refused=True)


async def test_a_wrong_management_key_keeps_what_was_ticked(alice: Page, browser: Eyes) -> None:
    await alice.goto("/settings/management-keys/new")
    await alice.get_by_label("Name").fill("ci")
    await alice.get_by_label("Read usage").check()
    await alice.get_by_label("Addresses").fill("somewhere")
    await alice.get_by_role("dialog").get_by_role("button", name="Create key").click()
    await expect(alice.get_by_text("is no range of addresses")).to_be_visible()
    await expect(alice.get_by_label("Read usage")).to_be_checked()
    await expect(alice.get_by_label("Addresses")).to_be_focused()
    await browser.look(alice, "management-keys-wrong", refused=True)


async def test_a_management_key_is_shown_once(alice: Page, browser: Eyes) -> None:
    await alice.goto("/settings/management-keys")
    await alice.get_by_role("link", name="Create key").click()
    await alice.get_by_label("Name").fill("shown once")
    await alice.get_by_label("All that follows").check()
    await alice.get_by_role("dialog").get_by_role("button", name="Create key").click()
    await expect(alice.locator("#secret")).to_contain_text("llm_")
    await browser.look(alice, "management-key-secret")


async def test_the_second_factor_from_the_picture_to_the_recovery_codes(
    browser: Eyes, northwind: ScriptedServer
) -> None:
    async with browser.page(northwind.base_url) as bob:
        await _sign_in(bob, BOB, PASSWORD)
        await bob.goto("/settings")
        await bob.get_by_label("Your password").fill(PASSWORD)
        await bob.get_by_role("button", name="Turn on").click()
        await expect(bob.get_by_role("img", name=re.compile("QR code"))).to_be_visible()
        await browser.look(bob, "two-factor")
        await browser.tab_through(bob)
        await bob.get_by_label("Code of six digits").fill("000000")
        await bob.get_by_role("button", name="Turn on").click()
        await expect(bob.get_by_text("This code is not right")).to_be_visible()
        await expect(bob.get_by_label("Code of six digits")).to_be_focused()
        await browser.look(bob, "two-factor-wrong", refused=True)
        secret = await bob.locator("#totp-secret").inner_text()
        await bob.get_by_label("Code of six digits").fill(pyotp.TOTP(secret).now())
        await bob.get_by_role("button", name="Turn on").click()
        await expect(bob.get_by_role("heading", level=1)).to_have_text("Your recovery codes")
        await browser.look(bob, "two-factor-codes")
        await bob.goto("/settings")
        await expect(bob.get_by_text("10 of 10 recovery codes are left")).to_be_visible()
        await browser.look(bob, "settings-two-factor-on")


async def test_a_viewer_s_pages_have_no_buttons_of_others(browser: Eyes, northwind: ScriptedServer) -> None:
    async with browser.page(northwind.base_url) as viewer:
        await _sign_in(viewer, "a-viewer-with-a-rather-long-address@research.northwind.example", PASSWORD)
        for path, name in (
            ("/members", "members-viewer"),
            ("/settings/organisation", "settings-organisation-viewer"),
            ("/settings/management-keys", "management-keys-viewer"),
            ("/audit", "audit-viewer"),
        ):
            await viewer.goto(path)
            await browser.look(viewer, name)
        await viewer.goto("/members")
        await viewer.get_by_role("button", name="Leave").click()
        await expect(viewer.get_by_role("dialog")).to_contain_text("To come back, you have to be invited.")


async def test_somebody_without_an_organisation_is_told_what_now(browser: Eyes, northwind: ScriptedServer) -> None:
    people = People(northwind)
    people.member("viewer", "gone@northwind.example").post("/members/leave")
    people.leave()
    async with browser.page(northwind.base_url) as gone:
        await gone.goto("/login")
        await gone.get_by_label("E-mail").fill("gone@northwind.example")
        await gone.get_by_label("Password").fill(PASSWORD)
        await gone.get_by_role("button", name="Sign in").click()
        await expect(gone.get_by_role("heading", level=1)).to_have_text("You belong to no organisation")
        await browser.look(gone, "no-organisation")


async def test_all_of_it_works_without_scripts(plain_alice: Page, northwind: ScriptedServer) -> None:
    page = plain_alice
    await page.goto("/members")
    await page.get_by_role("link", name="Invite").click()
    await page.get_by_label("E-mail").fill("gustav@northwind.example")
    await page.get_by_role("radio", name="Viewer").check()
    await page.get_by_role("dialog").get_by_role("button", name="Invite").click()
    await expect(page.locator("#link")).to_contain_text("/invite?token=")
    await page.goto("/members")
    row = page.get_by_role("row", name=re.compile("gustav"))
    await row.get_by_role("button", name="Withdraw").click()
    await page.get_by_role("dialog").get_by_role("button", name="Withdraw").click()
    await expect(page.get_by_text("is withdrawn")).to_be_visible()
    await page.get_by_role("button", name="Actions for Bob Lindqvist").click()
    await page.get_by_role("link", name="Change the role").click()
    await page.get_by_role("radio", name="Billing").check()
    await page.get_by_role("button", name="Save the role").click()
    await expect(page.get_by_text(f"{BOB} is billing now")).to_be_visible()
    await page.goto("/audit")
    await page.get_by_label("What").select_option("members role")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.locator(".change")).to_have_count(1)
    await expect(page.locator(".change")).to_contain_text(BOB)
