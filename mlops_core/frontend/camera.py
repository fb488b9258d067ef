"""Pictures of the page in its states, taken where Chromium is at hand: what a visitor sees, not what we meant."""

import asyncio
import shutil
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
KEPT_MS = 2_000  # as long as an answer must stand to be kept in the history, and a little more
SETTLE_MS = 500
TABS = ("Table", "History", "Model")


def find_browser() -> str:
    """Chromium's path, or nothing."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), "")


async def _open(browser: Browser, address: str, *, dark: bool = False, phone: bool = False) -> Page:
    scheme = "dark" if dark else "light"
    context = await browser.new_context(viewport=PHONE if phone else DESK, color_scheme=scheme)  # type: ignore[arg-type]
    page = await context.new_page()
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


async def _leave(page: Page) -> None:
    await page.goto("about:blank")
    await page.context.close()


async def _shoot(page: Page, folder: Path, state: str) -> Path:
    await page.screenshot(path=folder / f"{state}.png", full_page=True)
    return folder / f"{state}.png"


async def _visit(browser: Browser, address: str, name: str, password: str, table: Path, folder: Path) -> list[Path]:
    """One visitor at a desk, from the sign-in to the last tab."""
    page = await _open(browser, address)
    taken = [await _shoot(page, folder, "sign_in")]
    await _sign_in(page, name, "not the password")
    await page.get_by_role("alert").wait_for()
    taken.append(await _shoot(page, folder, "wrong_password"))
    await _sign_in(page, name, password)
    await _answered(page)
    await page.wait_for_timeout(KEPT_MS)
    taken.append(await _shoot(page, folder, "ask"))
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
        taken.append(await _shoot(page, folder, tab.lower()))
    await _leave(page)
    return taken


async def _glance(browser: Browser, address: str, name: str, password: str, folder: Path) -> list[Path]:
    """Others who only look at their first answer: in the dark, and on a phone."""
    taken = []
    for state, options in {"ask_dark": {"dark": True}, "ask_phone": {"phone": True}}.items():
        page = await _open(browser, address, **options)
        await _sign_in(page, name, password)
        await _answered(page)
        taken.append(await _shoot(page, folder, state))
        await _leave(page)
    return taken


async def take_pictures(address: str, name: str, password: str, table: Path, folder: Path) -> list[Path]:
    """Full-page PNGs of every state of the page at `address`; `table` is what is uploaded. Needs Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser(), args=OPTIONS)
        visitor = address, name, password
        visits = await asyncio.gather(_visit(browser, *visitor, table, folder), _glance(browser, *visitor, folder))
        await browser.close()
    return [picture for visit in visits for picture in visit]
