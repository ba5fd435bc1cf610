"""The built pages in a browser: wide and narrow, light and dark.

``nox -f .ci/noxfile.py -s pages`` runs these tests, after the session `docs` has built the pages. They require the
library Playwright, and Chromium from Playwright or from the system.
"""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest
from test_built_pages import SEARCHES

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = {"wide": 1300, "narrow": 500}
# Options for machines without a network, a screen or the rights for a sandbox.
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
FIRST = 3  # the right page must be among this many first results of a search

# How far a page scrolls sideways, its background, and the pictures that did not load.
LOOK = """() => ({
  hidden: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  background: getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number),
  missing: [...document.images].filter(image => !image.naturalWidth).map(image => image.src),
})"""
RESULTS = "() => [...document.querySelectorAll('ul.search > li > a')].map(link => link.getAttribute('href'))"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        found = next(filter(None, map(shutil.which, BROWSERS)), driver.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("no Chromium is installed")
        chromium = driver.chromium.launch(executable_path=found, args=OPTIONS)
        yield chromium
        chromium.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that prints nothing."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(pages):
    """Serve the pages to this machine only, and return their URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=pages)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def complaints():
    return []


@pytest.fixture
def open_tab(browser, site, complaints):
    """Return a function that opens tabs and records the errors in them."""

    def opened(**options):
        tab = browser.new_page(**options)

        def complain(*words):
            complaints.append(" ".join((Path(tab.url).name, *words)))

        tab.on("console", lambda said: said.type in ("error", "warning") and complain(said.text))
        tab.on("pageerror", lambda error: complain(str(error)))
        tab.on("requestfailed", lambda request: complain("did not get", request.url))
        tab.on("request", lambda request: request.url.startswith((site, "data:")) or complain("asks", request.url))
        return tab

    return opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page(pages, site, open_tab, complaints, width, scheme):
    tab = open_tab(viewport={"width": WIDTHS[width], "height": 900}, color_scheme=scheme)
    for path in sorted(pages.rglob("*.html")):
        tab.goto(f"{site}/{path.relative_to(pages).as_posix()}")
        seen = tab.evaluate(LOOK)
        if seen["hidden"] > 0:
            complaints.append(f"{path.name} is {seen['hidden']} pixels too wide")
        if (sum(seen["background"][:3]) < 3 * 128) != (scheme == "dark"):
            complaints.append(f"{path.name} is not {scheme}: {seen['background']}")
        complaints += [f"{path.name} lacks {url}" for url in seen["missing"]]
    assert not complaints


@pytest.mark.parametrize("words", SEARCHES)
def test_search_finds(site, open_tab, complaints, words):
    tab = open_tab()
    tab.goto(f"{site}/search.html?q={words.replace(' ', '+')}")
    tab.wait_for_function("document.querySelector('.search-summary')?.textContent.includes('found')")
    tab.wait_for_selector("ul.search > li > a")
    first = tab.evaluate(RESULTS)[:FIRST]
    assert SEARCHES[words][0] in {link.partition(".html")[0] for link in first}
    assert not complaints
