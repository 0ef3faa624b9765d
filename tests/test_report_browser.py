"""The report in a real browser: no errors, no requests, sorting, keyboard, axe, widths, print."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from report_cases import make_up, paper_config

from reproduce.claims.evidence import Claim, Effect, Verdict
from reproduce.core.files import write_text
from reproduce.experiments import paths
from reproduce.report.build import build_report, render

pytestmark = pytest.mark.browser
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# nothing that would use the network by itself
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
_ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
_WIDE, _PHONE = (1280, 900), (380, 780)
_OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"
_BACKGROUND = "getComputedStyle(document.body).backgroundColor"
_ENTRY, _SEEDS = "#table1 td.entry", "#table1 td.entry .seeds"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if found is None:
        pytest.skip(f"no Chromium here: none of {', '.join(_CHROMIUM)} is on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_ARGUMENTS)
        yield browser
        browser.close()


def _claim(verdict: Verdict, low: float, high: float) -> Claim:
    effect = Effect(
        "width 10 against 1", (low + high) / 2, low, high, seeds=3, images=10_000, p_value=0.02
    )
    return Claim(
        name=verdict.replace(" ", "-"),
        statement=f"A claim that {verdict}.",
        source="Table 1",
        verdict=verdict,
        summary="One sentence with the effect in numbers.",
        unit="seeds",
        effects=(effect, effect),
        missing=("a run",),
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page that has everything: entries of every kind, claims, figures, deviations."""
    config = paper_config(tmp_path_factory.mktemp("report"), "train.epochs=20")
    make_up(config)
    claims = [_claim("holds", 1, 3), _claim("fails", -4, -2), _claim("too little data", -1, 9)]
    write_text(paths.report_file(config), render(build_report(config) | {"claims": claims}))
    return paths.report_file(config).as_uri()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page on a wide screen; it must neither complain nor ask for anything."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url))
    page.goto(address)
    yield page
    page.close()
    assert [line for line in wrong if line != address and not line.startswith("data:")] == []


def _column(page: Page, number: int) -> list[str]:
    cells = page.locator(f"#table1 tbody tr:not(.section) td:nth-of-type({number})")
    return cells.evaluate_all("all => all.map(td => td.dataset.v)")


def test_it_opens_without_errors_or_requests(page: Page) -> None:
    assert "Reproduction report" in page.title()
    for image in page.locator("img").all():
        assert image.evaluate("image => image.complete && image.naturalWidth > 0")


def test_heads_sort_by_press_and_by_keyboard(page: Page) -> None:
    before = _column(page, 1)
    heads = page.locator("#table1 thead tr:nth-child(2) th")
    down = sorted(before, key=float, reverse=True)
    for state, order in (("descending", down), ("ascending", down[::-1]), (None, before)):
        heads.first.get_by_role("button").click()
        assert heads.first.get_attribute("aria-sort") == state
        assert _column(page, 1) == order
    heads.nth(2).get_by_role("button").focus()
    for key, state in (("Enter", "descending"), ("Space", "ascending")):
        page.keyboard.press(key)
        assert heads.nth(2).get_attribute("aria-sort") == state
        # what is missing stays last
        assert _column(page, 3)[-1] == ""
        assert page.locator("#table1 [aria-sort]").count() == 1
    page.locator("#table1 thead th").first.get_by_role("button").click()
    labels = page.locator("#table1 tbody tr:not(.section) th")
    assert labels.all_inner_texts() == ["9", "6"]
    page.locator("#cost details summary").click()
    page.locator("#cost-cells thead th").nth(2).get_by_role("button").click()
    spent = page.locator("#cost-cells tbody td:nth-of-type(2)")
    hours = [float(value) for value in spent.evaluate_all("all => all.map(td => td.dataset.v)")]
    assert hours == sorted(hours, reverse=True)
    assert hours[0] == 1.0


def test_seeds_by_keyboard_by_mouse_and_by_tap(page: Page, browser: Browser, address: str) -> None:
    entry, seeds = page.locator(_ENTRY).first, page.locator(_SEEDS).first
    entry.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert "seed 0 47.71" in " ".join(seeds.inner_text().split())
    page.keyboard.press("Escape")
    assert not seeds.is_visible()
    card = entry.locator(".card")
    entry.get_by_role("button").hover()
    assert card.is_visible()
    beside, around = entry.bounding_box(), card.bounding_box()
    assert beside is not None
    assert around is not None
    # the card is at its entry, not in the middle of the screen
    assert abs(around["x"] - beside["x"]) < 60
    page.mouse.move(5, 5)
    assert not card.is_visible()
    entry.get_by_role("button").click()
    page.mouse.move(5, 5)
    assert card.is_visible()
    # on a phone, and without scripts
    options: list[dict[str, Any]] = [
        {"viewport": {"width": 380, "height": 780}, "has_touch": True},
        {"java_script_enabled": False, "has_touch": True},
    ]
    for one in options:
        context = browser.new_context(**one)
        other = context.new_page()
        other.goto(address)
        other.locator(f"{_ENTRY} button").first.tap()
        assert other.locator(_SEEDS).first.is_visible()
        context.close()


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        (_WIDE, "light"),
        pytest.param(_WIDE, "dark", marks=pytest.mark.slow),
        pytest.param(_PHONE, "light", marks=pytest.mark.slow),
        pytest.param(_PHONE, "dark", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_nothing(page: Page, size: tuple[int, int], scheme: str) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme)
    page.evaluate(_OPEN_ALL)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    page.locator(f"{_ENTRY} button").first.click()
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("size", [_WIDE, _PHONE])
def test_no_sideways_scrolling(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.evaluate(_OPEN_ALL)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= size[0]


def test_colours_follow_the_system_and_the_button(page: Page) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        seen[scheme] = page.evaluate(_BACKGROUND)
    assert seen["light"] != seen["dark"]
    button = page.locator("#theme")
    assert button.inner_text() == "Light"
    for scheme in ("light", "dark"):
        button.click()
        assert page.evaluate(_BACKGROUND) == seen[scheme]


def test_paper_shows_what_is_folded(page: Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(_BACKGROUND) == "rgb(255, 255, 255)"
    assert not page.locator("#theme").is_visible()
    assert not page.locator("nav").is_visible()
    folded = page.locator("details:not([open]) > *:not(summary)")
    assert folded.count() > 3
    for place in range(folded.count()):
        assert folded.nth(place).evaluate(
            "one => one.checkVisibility({contentVisibilityAuto: true}) && one.offsetHeight > 0"
        )
    assert page.locator(_SEEDS).first.is_visible()


def test_the_skip_link_leads_past_the_contents(page: Page) -> None:
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    assert skip.evaluate("link => link === document.activeElement")
    box = skip.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
