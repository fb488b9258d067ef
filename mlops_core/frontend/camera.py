"""Pictures of the page in its states, taken where Chromium is at hand: what a visitor sees, not what we meant."""

import asyncio
import shutil
from pathlib import Path

from playwright.async_api import Browser, Page, ViewportSize, async_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
DESK, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
KEPT_MS = 2_000  # as long as an answer must stand to be kept in the history, and a little more
BETWEEN_MS, TRIES = 100, 50  # until two pictures in a row are the same


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


async def _shoot(page: Page, file: Path) -> None:
    """Once nothing moves: what is drawn late, or still fades, makes two pictures that differ."""
    before, now = b"", await page.screenshot(full_page=True)
    for _ in range(TRIES):
        if before == now:
            break
        await page.wait_for_timeout(BETWEEN_MS)
        before, now = now, await page.screenshot(full_page=True)
    file.write_bytes(now)


async def _show(page: Page, tab: str) -> None:
    await page.get_by_role("button", name=tab, exact=True).click()


async def take_pictures(address: str, name: str, password: str, table: Path, folder: Path) -> list[Path]:
    """Full-page PNGs of every state of the page at `address`; `table` is what is uploaded. Needs Chromium."""
    taken: list[Path] = []

    async def shoot(page: Page, state: str) -> None:
        taken.append(folder / f"{state}.png")
        await _shoot(page, taken[-1])

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser(), args=OPTIONS)
        page = await _open(browser, address)
        await shoot(page, "sign_in")
        await _sign_in(page, name, "not the password")
        await page.get_by_role("alert").wait_for()
        await shoot(page, "wrong_password")
        await _sign_in(page, name, password)
        await page.locator(".mlops-ask .mlops-plot[data-drawn]").nth(2).wait_for()

        kept = asyncio.create_task(page.wait_for_timeout(KEPT_MS))  # meanwhile the first answer stands
        await shoot(page, "ask")
        await page.emulate_media(color_scheme="dark")
        await shoot(page, "ask_dark")
        await page.emulate_media(color_scheme="light")
        await page.set_viewport_size(PHONE)
        await shoot(page, "ask_phone")
        await page.set_viewport_size(DESK)
        await kept

        slider = page.locator(".noUi-handle").first
        await slider.focus()
        for _ in range(12):
            await slider.press("ArrowRight")
        kept = asyncio.create_task(page.wait_for_timeout(KEPT_MS))
        await _show(page, "Table")
        await page.get_by_label("Choose a table").set_input_files(table)
        await page.get_by_role("button", name="Get the answers").click()
        await page.get_by_text("rows answered").wait_for()
        await shoot(page, "table")
        await _show(page, "Model")
        await shoot(page, "model")
        await kept
        await _show(page, "History")
        await shoot(page, "history")
        await page.goto("about:blank")
        await browser.close()
    return taken
