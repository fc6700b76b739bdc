"""The page in a real browser: everything drawn, nothing fetched, nothing sticking out."""

from __future__ import annotations

import re
import shutil

import pytest

from sim.report import write_report

from .conftest import SCRIPT_NAME

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
]
WIDTHS = (1200, 390)
DRAWN = """() => [...document.querySelectorAll('[data-plot]')].map(box => {
    const marks = [...box.querySelectorAll('.trace path')].map(mark => mark.getBoundingClientRect());
    const size = box.getBoundingClientRect();
    return {name: box.dataset.plot, width: size.width, height: size.height,
            marks: marks.filter(mark => mark.width + mark.height > 2).length};
})"""
STICKING_OUT = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
LEGENDS_OUTSIDE = """() => [...document.querySelectorAll('[data-plot]')].filter(box => {
    const outer = box.getBoundingClientRect();
    return [...box.querySelectorAll('.legend, .xtitle, .ytitle')].some(part => {
        const inner = part.getBoundingClientRect();
        return inner.width && (inner.left < outer.left - 1 || inner.right > outer.right + 1
                               || inner.bottom > outer.bottom + 1 || inner.top < outer.top - 1);
    });
}).map(box => box.dataset.plot)"""


@pytest.fixture(scope="module")
def browser(lacking):
    if not shutil.which(CHROMIUM):
        lacking(f"no Chromium at {CHROMIUM}: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("no Playwright: pip install playwright")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def url(run, tmp_path_factory):
    return write_report(run.results, run.scores, tmp_path_factory.mktemp("report") / "report.html").as_uri()


class Opened:
    """A page, and all that it complained about or asked for while it opened."""

    def __init__(self, browser, url, width):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="light")
        self.page = self.context.new_page()
        self.page.set_default_timeout(180_000)  # milliseconds: a busy machine is no fault of the page
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)
        self.page.wait_for_function(
            "[...document.querySelectorAll('[data-plot]')].every(box => box.querySelector('.main-svg'))"
        )


@pytest.fixture(scope="module", params=WIDTHS)
def opened(request, browser, url):
    page = Opened(browser, url, request.param)
    yield page
    page.context.close()


def test_no_complaints_and_nothing_asked_of_the_network(opened, url):
    assert opened.complaints == []
    assert opened.requests == [url]


def test_every_plot_is_drawn(opened):
    plots = opened.page.evaluate(DRAWN)
    assert len(plots) == 11
    for plot in plots:
        assert plot["width"] > 250, plot
        assert plot["height"] > 150, plot
        assert plot["marks"] >= 1, plot


def test_nothing_sticks_out(opened):
    assert opened.page.evaluate(STICKING_OUT) == 0
    assert opened.page.evaluate(LEGENDS_OUTSIDE) == []


def test_the_words_can_be_seen(opened):
    for text in ("Read this first", "Findings", "Who sees what", "Glossary", "may query one person's model"):
        assert opened.page.get_by_text(text).first.is_visible(), text
    assert opened.page.locator("#verdict").inner_text().startswith("The models leak")


def test_every_plot_has_a_text_alternative_and_a_caption(opened):
    for figure in opened.page.locator("figure").all():
        assert len(figure.locator("[role=img]").get_attribute("aria-label")) > 40
        assert figure.locator("figcaption").inner_text()


def test_a_name_made_of_markup_is_only_ever_text(run, browser, tmp_path):
    hostile = '<img src=x onerror=alert(1)><a href="javascript:alert(2)">x</a>'
    people = [p.model_copy(update={"person": hostile}) if p.person == "person 02" else p for p in run.results.people]
    clients = [c.model_copy(update={"person": hostile}) if c.person == "person 02" else c for c in run.results.clients]
    results = run.results.model_copy(update={"people": people, "clients": clients, "title": hostile})
    opened = Opened(browser, write_report(results, run.scores, tmp_path / "report.html").as_uri(), 1200)
    opened.page.locator("summary").last.click()
    assert opened.complaints == []
    assert len(opened.requests) == 1
    assert opened.page.locator("img").count() == 0
    assert opened.page.locator("[data-plot] a").count() == 0
    assert opened.page.locator("h1").inner_text() == hostile
    assert opened.page.get_by_role("rowheader", name=SCRIPT_NAME).is_visible()
    labels = opened.page.locator("[data-plot=exposure] .ytick text").all_text_contents()
    assert any(label.startswith("<img src=x onerror") for label in labels)
    opened.context.close()


def test_hovering_a_hostile_client_shows_its_name_as_text(opened):
    if opened.page.viewport_size["width"] < 1000:
        pytest.skip("a phone has no pointer to hover with")
    box = opened.page.locator("[data-plot=exposure]")
    box.scroll_into_view_if_needed()
    place = "() => { const plot = document.querySelector('[data-plot=exposure]'); return plot.data[0].text.findIndex("
    index = opened.page.evaluate(place + "t => t.includes('script')) }")
    box.evaluate("(plot, n) => Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: n}])", index)
    shown = box.locator(".hoverlayer text").first
    shown.wait_for()
    assert "<script>alert" in shown.text_content()
    assert opened.complaints == []


def test_a_page_that_turns_dark_keeps_its_plots_legible(opened):
    opened.page.emulate_media(color_scheme="dark")
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", background)[:3])) < 60
    ink = "getComputedStyle(document.querySelector('[data-plot] .xtick text')).fill"
    # Plots are drawn anew some moments after the page has turned; a plot that stays dark runs into the time limit.
    opened.page.wait_for_function(f"() => Math.min(...{ink}.match(/\\d+/g).slice(0, 3)) > 180", timeout=120_000)
    opened.page.emulate_media(color_scheme="light")


def test_printing_opens_what_is_folded(opened):
    assert opened.page.locator("details[open]").count() == 0
    opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert opened.page.locator("details[open]").count() == opened.page.locator("details").count() == 3
    assert opened.page.evaluate(STICKING_OUT) == 0
