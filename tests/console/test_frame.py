"""What happens on a page: menus, dialogs, copying, the theme. With scripts, and without where it has to."""

from datetime import datetime, timedelta, timezone

from playwright.async_api import expect

PHONE = {"width": 390, "height": 844}


async def test_menus_open_and_close_without_scripts(plain_page):
    await plain_page.goto("/keys")
    change = plain_page.get_by_role("link", name="Rotate")
    await expect(change.first).to_be_hidden()
    await plain_page.get_by_role("button", name="Actions for web-production").click()
    await expect(plain_page.locator("#menu-1")).to_be_visible()
    await plain_page.keyboard.press("Escape")
    await expect(plain_page.locator("#menu-1")).to_be_hidden()


async def test_a_menu_stands_at_its_button_and_within_the_window(page, look):
    await page.goto("/keys")
    button = page.get_by_role("button", name="Actions for old-staging")
    await button.click()
    opener, menu = await button.bounding_box(), await page.locator("#menu-4").bounding_box()
    assert opener is not None
    assert menu is not None
    assert abs(menu["x"] + menu["width"] - opener["x"] - opener["width"]) < 2
    assert 0 <= menu["y"] - opener["y"] - opener["height"] < 10
    await look(page, "keys-menu")


async def test_the_organisations_are_forms_of_the_switcher(plain_page):
    await plain_page.goto("/keys")
    await plain_page.get_by_role("button", name="Northwind Labs").first.click()
    other = plain_page.get_by_role("button", name="Contoso Research and Development")
    await expect(other).to_have_attribute("value", "org_2")
    form = plain_page.locator("#organisations")
    assert (await form.get_attribute("method"), await form.get_attribute("action")) == ("post", "/organisation")


async def test_the_rail_opens_on_a_phone_without_scripts(plain_page):
    await plain_page.set_viewport_size(PHONE)
    await plain_page.goto("/keys")
    usage = plain_page.get_by_role("link", name="Usage")
    await expect(usage).to_be_hidden()
    await plain_page.get_by_role("button", name="Menu").click()
    await expect(usage).to_be_visible()


async def test_the_open_rail_on_a_phone_is_as_every_page_has_to_be(page, look):
    await page.set_viewport_size(PHONE)
    await page.goto("/keys")
    await page.get_by_role("button", name="Menu").click()
    await look(page, "keys-rail")


async def test_a_dialog_opens_without_scripts_and_gives_the_focus_back(plain_page):
    await plain_page.goto("/gallery")
    await plain_page.get_by_role("button", name="Create key").first.click()
    await expect(plain_page.get_by_role("dialog", name="Create key")).to_be_visible()
    await expect(plain_page.locator("#new-name")).to_be_focused()
    await plain_page.keyboard.press("Escape")
    await expect(plain_page.get_by_role("dialog", name="Create key")).to_be_hidden()
    await expect(plain_page.get_by_role("button", name="Create key").first).to_be_focused()


async def test_a_dialog_that_comes_open_is_modal_with_scripts_and_part_of_the_page_without(page, plain_page):
    await page.goto("/gallery/open")
    await expect(page.locator("dialog#new:modal")).to_be_visible()
    await expect(page.locator("#new-name")).to_be_focused()
    await plain_page.goto("/gallery/open")
    await expect(plain_page.locator("dialog#new:not(:modal)")).to_be_visible()
    await plain_page.get_by_role("link", name="Close").click()
    await expect(plain_page).to_have_url("/gallery")


async def test_a_secret_stays_until_it_was_copied(page):
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto("/gallery/kept")
    dialog, button = page.get_by_role("dialog"), page.get_by_role("button", name="Copy key", exact=True)
    await expect(button).to_be_focused()
    for _ in range(3):  # Chromium lets the second Escape in a row through, unless nothing at all closes the dialog.
        await page.keyboard.press("Escape")
    await expect(dialog).to_be_visible()
    await button.click()
    await expect(dialog.get_by_role("status").filter(has_text="Copied")).to_be_attached()
    secret = await page.locator("#the-key").text_content()
    assert await page.evaluate("() => navigator.clipboard.readText()") == secret
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()


async def test_a_secret_stays_in_browsers_that_do_not_know_how_dialogs_close(page):
    await page.goto("/gallery/kept")
    await page.evaluate("() => document.querySelector('dialog[data-kept]').removeAttribute('closedby')")
    await page.keyboard.press("Escape")
    await page.mouse.click(5, 5)
    await expect(page.get_by_role("dialog")).to_be_visible()


async def test_copying_works_where_the_browser_has_no_clipboard(page):
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.add_init_script(
        "window.kept = navigator.clipboard; Object.defineProperty(navigator, 'clipboard', { value: undefined })"
    )
    await page.goto("/start")
    await page.get_by_role("button", name="Copy localhost:8081").click()
    await expect(page.get_by_role("status")).to_have_text("Copied")
    assert await page.evaluate("() => window.kept.readText()") == "localhost:8081"


async def test_code_is_copied_in_the_language_that_is_seen(page):
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto("/start")
    await page.get_by_text("Python", exact=True).click()
    await page.get_by_role("button", name="Copy", exact=True).click()
    await expect(page.get_by_role("status")).to_have_text("Copied")
    assert (await page.evaluate("() => navigator.clipboard.readText()")).startswith("import os\nfrom openai")


async def test_languages_change_without_scripts_and_are_remembered_with_them(page, plain_page):
    await plain_page.goto("/start")
    await expect(plain_page.get_by_role("region", name="Python")).to_be_hidden()
    await plain_page.get_by_text("Python", exact=True).click()
    await expect(plain_page.get_by_role("region", name="Python")).to_be_visible()
    await expect(plain_page.get_by_role("region", name="curl")).to_be_hidden()
    await page.goto("/start")
    await page.get_by_text("JavaScript", exact=True).click()
    await page.goto("/gallery")
    await expect(page.get_by_role("region", name="JavaScript").first).to_be_visible()


async def test_the_theme_is_the_systems_until_another_one_is_chosen(page):
    ground = "() => getComputedStyle(document.body).backgroundColor"
    await page.emulate_media(color_scheme="dark")
    await page.goto("/keys")
    dark = await page.evaluate(ground)
    await page.get_by_role("button", name="Light or dark").click()
    light = await page.evaluate(ground)
    assert light != dark
    await page.goto("/start")
    assert await page.evaluate(ground) == light
    await page.emulate_media(color_scheme="light")
    assert await page.evaluate(ground) == light


async def test_what_only_scripts_can_do_is_not_shown_without_them(plain_page):
    await plain_page.goto("/start")
    await expect(plain_page.get_by_role("button", name="Copy")).to_have_count(0)
    await expect(plain_page.get_by_role("button", name="Light or dark")).to_have_count(0)


async def test_a_confirmation_wants_the_name_and_posts_what_it_is_for(page):
    await page.goto("/gallery")
    await page.get_by_role("button", name="Revoke", exact=True).first.click()
    dialog = page.get_by_role("dialog", name="Revoke web-production?")
    await dialog.get_by_label("Type web-production to confirm").fill("web-prod")
    await dialog.get_by_role("button", name="Revoke").click()
    await expect(page).to_have_url("/gallery")
    await dialog.get_by_label("Type web-production to confirm").fill("web-production")
    await dialog.get_by_role("button", name="Revoke").click()
    await expect(page).to_have_url("/gallery?key=key_1&confirmation=web-production")


async def test_a_form_is_sent_once_until_one_comes_back_to_its_page(page):
    await page.goto("/plain")
    await page.get_by_label("Password").fill("correct horse")
    send_twice = """() => {
      let sent = 0;
      const count = (event) => { sent += event.defaultPrevented ? 0 : 1; event.preventDefault(); };
      addEventListener("submit", count);
      document.forms[0].requestSubmit();
      document.forms[0].requestSubmit();
      removeEventListener("submit", count);
      return sent;
    }"""
    assert await page.evaluate(send_twice) == 1
    await page.evaluate("() => dispatchEvent(new Event('pageshow'))")
    assert await page.evaluate(send_twice) == 1


async def test_a_chart_is_drawn_in_the_colours_of_the_theme(page):
    await page.goto("/gallery")
    await page.wait_for_function("() => Chart.getChart(document.querySelector('canvas'))")
    light = await page.evaluate(
        "() => Chart.getChart(document.querySelector('canvas')).data.datasets[0].backgroundColor"
    )
    await page.get_by_role("button", name="Light or dark").click()
    dark = await page.evaluate(
        "() => Chart.getChart(document.querySelector('canvas')).data.datasets[0].backgroundColor"
    )
    assert (light, dark) == ("rgb(14, 124, 134)", "rgb(67, 169, 178)")


async def test_times_are_in_utc_with_the_readers_own_time_beside_them(browser, gallery):
    async with browser.page(gallery, timezone_id="Asia/Tokyo", locale="en-GB") as page:
        await page.goto("/gallery")
        time = page.locator("dd:has-text('UTC') > time").first
        moment = datetime.fromisoformat(await time.get_attribute("datetime"))
        own = moment.astimezone(timezone(timedelta(hours=9)))
        assert f"{moment.day} {moment:%b %Y, %H:%M} UTC" == await time.inner_text()
        await expect(time).to_have_attribute("title", f"{own.day} {own:%b %Y, %H:%M:%S}, your time")
