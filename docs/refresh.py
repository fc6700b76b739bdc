"""Put a finished quickstart's real output into the README, and a picture of its report into docs/report.png.

Usage: make readme   (runs the quickstart first; needs Debian's chromium)
"""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console

from sim.results import Results
from sim.table import render

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
START, END = "<!-- quickstart: written by docs/refresh.py -->", "<!-- /quickstart -->"
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main(run: Path) -> None:
    """Refresh both from the run folder `run`."""
    results = Results.model_validate_json((run / "results.json").read_text())
    before, rest = README.read_text().split(START)
    after = rest.split(END)[1]
    README.write_text(f"{before}{START}\n```\n{_table(results)}\n```\n{END}{after}")
    _picture(run / "report.html", DOCS / "report.png")


def _table(results: Results) -> str:
    text = StringIO()
    render(results, Console(file=text, width=100))
    tables = text.getvalue().split("\nFindings\n")[0]  # the sentences are in the picture
    return "\n".join(line.rstrip() for line in tables.strip().splitlines())


def _picture(report: Path, picture: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1100, "height": 1500})
        page.goto(report.resolve().as_uri() + "#gain")
        page.wait_for_selector("#gain ~ * .main-svg")
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
