"""The page about a run in a browser: nothing fails, tables sort, nothing is cut off; light, dark and on paper."""

import chromium
import pytest
import small_run
from chromium import overflow

pytestmark = pytest.mark.xdist_group("run")  # which one worker trains for all


@pytest.fixture(scope="module")
def browser():
    with chromium.launched() as opened:
        yield opened


@pytest.fixture
def open_page(browser, tmp_path_factory):
    """Opens the page of a run; what goes wrong in it, or leaves it, fails the test."""
    contexts, wrong = [], []

    def opened(name="steps", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        address = small_run.page(tmp_path_factory, name).as_uri()
        page = chromium.watched(context, wrong, address)
        page.goto(address)
        page.wait_for_load_state("networkidle")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def column(page, table, number):
    return page.locator(f"{table} tbody tr td:nth-child({number + 1})").all_inner_texts()


def test_a_click_on_a_header_sorts(open_page):
    page = open_page()
    page.locator("details summary").click()
    table = "details table.sortable"
    names = column(page, table, 0)
    parameters = [int(text.replace(",", "")) for text in column(page, table, 2)]
    assert parameters != sorted(parameters)
    head = page.locator(f"{table} thead th").nth(2)
    assert head.get_attribute("aria-sort") is None
    head.locator("button").click()
    sorted_once = [int(text.replace(",", "")) for text in column(page, table, 2)]
    assert sorted_once == sorted(parameters) and head.get_attribute("aria-sort") == "ascending"
    # As numbers: as texts they would come in another order. And rows move whole.
    assert sorted(map(str, parameters)) != list(map(str, sorted(parameters)))
    pairs = dict(zip(names, parameters, strict=True))
    assert [pairs[name] for name in column(page, table, 0)] == sorted_once
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert [int(text.replace(",", "")) for text in column(page, table, 2)] == sorted_once[::-1]
    assert head.get_attribute("aria-sort") == "descending"
    first = page.locator(f"{table} thead th").nth(0)
    first.locator("button").click()
    assert column(page, table, 0) == sorted(names)
    assert (first.get_attribute("aria-sort"), head.get_attribute("aria-sort")) == ("ascending", None)


def test_shares_sort_by_what_they_are(open_page):
    page = open_page()
    table = "#classes + .scroll table"
    shown = [float(text.removesuffix(" %")) for text in column(page, table, 2)]
    page.locator(f"{table} thead th button").nth(2).click()
    again = [float(text.removesuffix(" %")) for text in column(page, table, 2)]
    assert again == sorted(shown) and len(set(shown)) > 1


@pytest.mark.parametrize("name", ["steps", "binary", "several"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone(open_page, name, scheme):
    page = open_page(name, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    assert overflow(page) <= 0
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    bright = [sum(map(int, color[4:-1].split(","))) for color in (ink, paper)]
    assert (bright[0] > bright[1]) == (scheme == "dark") and abs(bright[0] - bright[1]) > 400
    # The charts take the page's color.
    text = page.locator("figure svg text").first.evaluate("e => getComputedStyle(e).fill")
    assert text == ink
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.evaluate(broken) == 0 and page.locator("img").count() >= 20


def test_on_paper(open_page):
    page = open_page(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    assert page.locator("nav").is_visible()
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible() and overflow(page) <= 0
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and 1 < pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") < 20


def test_links_lead_somewhere(open_page):
    page = open_page()
    for link in page.locator("nav a").all():
        link.click()
        assert page.locator(page.url[page.url.index("#") :]).count() == 1
