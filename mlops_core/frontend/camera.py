"""Pictures of the page in its states, taken where Chromium is at hand: what a visitor sees, not what we meant."""

import shutil
from pathlib import Path

from playwright.async_api import Browser, Page, ViewportSize, async_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
DESK, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
KEPT_MS = 2_000  # as long as an answer must stand to be kept in the history, and a little more
SETTLE_MS = 500
TABS = ("Table", "History", "Model")


def find_browser() -> str:
    """Chromium's path, or nothing."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), "")


async def _open(browser: Browser, address: str) -> Page:
    page = await browser.new_page(viewport=DESK, color_scheme="light")
    await page.goto(address)
    await page.locator("#loading").wait_for(state="detached")
    return page


async def _sign_in(page: Page, name: str, password: str) -> None:
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()


async def _answered(page: Page) -> None:
    await page.locator(".mlops-ask .mlops-plot[data-drawn]").nth(2).wait_for()
    await page.wait_for_timeout(SETTLE_MS)


async def take_pictures(address: str, name: str, password: str, table: Path, folder: Path) -> list[Path]:
    """Full-page PNGs of every state of the page at `address`; `table` is what is uploaded. Needs Chromium."""
    taken: list[Path] = []

    async def shoot(page: Page, state: str) -> None:
        taken.append(folder / f"{state}.png")
        await page.screenshot(path=taken[-1], full_page=True)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser(), args=OPTIONS)
        page = await _open(browser, address)
        await shoot(page, "sign_in")
        await _sign_in(page, name, "not the password")
        await page.get_by_role("alert").wait_for()
        await shoot(page, "wrong_password")
        await _sign_in(page, name, password)
        await _answered(page)
        await shoot(page, "ask")
        await page.emulate_media(color_scheme="dark")
        await page.wait_for_timeout(SETTLE_MS)
        await shoot(page, "ask_dark")
        await page.emulate_media(color_scheme="light")
        await page.set_viewport_size(PHONE)
        await page.wait_for_timeout(SETTLE_MS)
        await shoot(page, "ask_phone")
        await page.set_viewport_size(DESK)
        await page.wait_for_timeout(SETTLE_MS)
        slider = page.locator(".noUi-handle").first
        await slider.focus()
        for _ in range(12):
            await slider.press("ArrowRight")
        await page.wait_for_timeout(KEPT_MS)
        for tab in TABS:
            await page.get_by_role("button", name=tab, exact=True).click()
            if tab == "Table":
                await page.get_by_label("Choose a table").set_input_files(table)
                await page.get_by_role("button", name="Get the answers").click()
                await page.get_by_text("rows answered").wait_for()
            await page.wait_for_timeout(SETTLE_MS)
            await shoot(page, tab.lower())
        await page.goto("about:blank")
        await browser.close()
    return taken
