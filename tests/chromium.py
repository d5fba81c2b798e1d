"""A headless Chromium for tests of pages; a module that imports this is skipped where there is none."""

import contextlib
import shutil

import pytest

api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'jft[browser]'")
PATH = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if PATH is None:
    pytest.skip("no Chromium: install chromium, chromium-browser or google-chrome", allow_module_level=True)


@contextlib.contextmanager
def launched():
    with api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=PATH, args=arguments)
        yield chromium
        chromium.close()


def watched(context, wrong, *known):
    """A new page; what goes wrong in it, or leaves it other than for known addresses, is appended to `wrong`."""
    page = context.new_page()
    page.on("console", lambda message: wrong.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    # Addresses of blobs are within the page.
    page.on(
        "request",
        lambda asked: asked.url in known or asked.url.startswith(("data:", "blob:")) or wrong.append(asked.url),
    )
    return page


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
