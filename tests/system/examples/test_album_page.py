"""The photo album's page, in a real browser, with a real worker, web tier and RabbitMQ."""

import asyncio
import io
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageChops
from playwright.async_api import Browser, Page, Route, expect

from tests.support.album import SMALL, Tier, file, jpeg
from tests.support.brokers.broker_server import VirtualHost
from tests.support.browser import PATIENCE, browsing

RECORD = """
// Every word that a tile ever showed, by the photograph's name.
window.shown = {};
new MutationObserver(() => {
  for (const tile of document.querySelectorAll(".tile")) {
    const name = tile.querySelector(".name").textContent;
    const words = tile.querySelector(".state").textContent.replace("\\u00a0", " ");
    const seen = (window.shown[name] ??= []);
    if (seen.at(-1) !== words) seen.push(words);
  }
}).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
"""


@pytest.fixture
def tier(broker: VirtualHost, tmp_path: Path) -> Tier:
    return Tier(broker, tmp_path)


@pytest.fixture
def tier_43(broker_43: VirtualHost, tmp_path: Path) -> Tier:
    return Tier(broker_43, tmp_path)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as started:
        yield started


class Watched:
    """A page, and what went wrong in it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.requests: list[str] = []
        self.problems: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._heard)

    def _heard(self, message: Any) -> None:
        # A connection that fails while the server is away is no fault of the page.
        if message.type == "error" and "net::ERR" not in message.text:
            self.problems.append(message.text)

    async def choose(self, *files: Any) -> None:
        """Choose files, as by the button."""
        await self.page.get_by_label("Add photographs").set_input_files(list(files))

    async def has(self, done: int, of: int) -> None:
        """Wait until so many are done."""
        summary = self.page.locator("#summary")
        await expect(summary).to_contain_text(f"{done} of {of} done", timeout=2 * PATIENCE)

    def tile(self, name: str) -> Any:
        return self.page.locator(".tile").filter(has=self.page.get_by_text(name, exact=True))

    async def shown(self, name: str) -> list[str]:
        """All that its tile said, in order, since the page was loaded."""
        said: list[str] = await self.page.evaluate("name => window.shown[name]", name)
        return said

    def check(self) -> None:
        """It asked nobody else for anything, and nothing in it failed."""
        assert self.problems == []
        places = {urlsplit(url).netloc for url in self.requests if not url.startswith("data:")}
        assert places == {urlsplit(self.url).netloc}


async def opened(browser: Browser, tier: Tier, **options: Any) -> Watched:
    context = await browser.new_context(**options)
    await context.add_init_script(RECORD)
    watched = Watched(await context.new_page(), tier.url)
    await watched.page.goto(tier.url)
    return watched


async def is_a_picture(tile: Any) -> None:
    """Loaded, the thumbnail."""
    image = tile.locator("img")
    await expect(image).to_be_visible()
    await expect(image).to_have_js_property("complete", True)
    assert await image.evaluate("image => image.naturalWidth") == 256


async def test_three_photographs_one_of_them_broken(tier: Tier, browser: Browser) -> None:
    """Progress is seen as it is made, two thumbnails come, the broken one is named with why."""
    with tier.serving(), tier.working():
        watched = await opened(browser, tier)
        large = jpeg(3600, 3000, noisy=True)
        broken = jpeg(800, 600, noisy=True)[:20_000]
        await watched.choose(
            file("Beach.jpg", large), file("Broken.jpg", broken), file("Tree.jpg", SMALL)
        )
        await watched.has(2, of=3)

        for name in ("Beach.jpg", "Tree.jpg"):
            await is_a_picture(watched.tile(name))
            await expect(watched.tile(name)).to_have_attribute("data-kind", "done")
        failed = watched.tile("Broken.jpg")
        await expect(failed).to_have_attribute("data-kind", "failed")
        await expect(failed).to_contain_text("broken: image file is truncated")
        await expect(watched.page.locator("#summary")).to_have_text(
            "2 of 3 done, 1 failed: Broken.jpg"
        )
        await expect(watched.page.get_by_role("status").first).to_contain_text("Broken.jpg")

        said = await watched.shown("Beach.jpg")
        assert any(words.startswith("reading, 10") for words in said), said
        assert said[-1] == "done"
        watched.check()


async def test_a_reload_in_the_middle_forgets_nothing(tier_43: Tier, browser: Browser) -> None:
    """What was sent is still there, and goes on; what is done is shown again without asking."""
    with tier_43.serving():
        watched = await opened(browser, tier_43)
        await watched.choose(file("One.jpg", SMALL), file("Two.jpg", SMALL))
        for name in ("One.jpg", "Two.jpg"):
            await expect(watched.tile(name).locator(".state")).to_have_text("waiting")

        await watched.page.reload()
        await expect(watched.page.locator(".tile")).to_have_count(2)
        await watched.has(0, of=2)
        with tier_43.working():
            await watched.has(2, of=2)
        await watched.page.reload()
        await is_a_picture(watched.tile("One.jpg"))
        await watched.has(2, of=2)
        watched.check()


async def test_what_a_reload_interrupts_is_not_passed_over(tier_43: Tier, browser: Browser) -> None:
    """A file that was not sent is gone with the page: it says so, and waits for nothing."""
    with tier_43.serving():
        watched = await opened(browser, tier_43)
        await watched.page.route("**/photographs/*?name=*", lambda route: route.abort())
        await watched.choose(file("One.jpg", SMALL))
        await expect(watched.tile("One.jpg")).to_contain_text("waiting for the server")
        await watched.page.reload()
        await expect(watched.tile("One.jpg")).to_contain_text("was not sent whole")
        await expect(watched.tile("One.jpg")).to_have_attribute("data-kind", "failed")


async def test_the_page_outlives_a_restart_of_the_server(tier_43: Tier, browser: Browser) -> None:
    """It says that the connection is lost, sends what could not be sent, and goes on."""
    with tier_43.serving() as server:
        watched = await opened(browser, tier_43)
        await watched.choose(file("Before.jpg", SMALL))
        await expect(watched.tile("Before.jpg").locator(".state")).to_have_text("waiting")
        server.signal()
        assert server.wait() == 0
    connection = watched.page.locator("#connection")
    await expect(connection).to_contain_text("Connection lost")
    await watched.choose(file("Between.jpg", SMALL))
    between = watched.tile("Between.jpg").locator(".state")
    await expect(between).to_have_text("waiting for the server")

    with tier_43.serving(), tier_43.working():
        await watched.has(2, of=2)
        await expect(connection).to_be_empty()
        watched.check()


async def test_a_server_that_hangs_is_noticed_within_five_seconds(
    tier_43: Tier, browser: Browser
) -> None:
    """With nothing to follow, and with a connection that stays open; and when it is back, too."""
    with tier_43.serving() as server:
        watched = await opened(browser, tier_43)
        connection = watched.page.locator("#connection")
        await expect(watched.page.get_by_text("Drop photographs here")).to_be_visible()
        await expect(connection).to_be_empty()
        server.signal(signal.SIGSTOP)
        try:
            await expect(connection).to_contain_text("Connection lost", timeout=5_000)
        finally:
            server.signal(signal.SIGCONT)
        await expect(connection).to_be_empty()
        watched.check()


async def test_what_a_hanging_server_did_not_say_is_seen_once_it_is_back(
    tier_43: Tier, browser: Browser
) -> None:
    """The stream is opened anew."""
    with tier_43.serving() as server:
        watched = await opened(browser, tier_43)
        await watched.choose(file("One.jpg", SMALL))
        await expect(watched.tile("One.jpg").locator(".state")).to_have_text("waiting")
        server.signal(signal.SIGSTOP)
        try:
            await expect(watched.page.locator("#connection")).to_contain_text("Connection lost")
        finally:
            server.signal(signal.SIGCONT)
        with tier_43.working():
            await watched.has(1, of=1)
        await expect(watched.page.locator("#connection")).to_be_empty()
        watched.check()


async def test_the_newest_is_first(tier_43: Tier, browser: Browser) -> None:
    """Also of those that are chosen together, and after a reload."""
    with tier_43.serving():
        watched = await opened(browser, tier_43)
        names = watched.page.locator(".tile .name")
        await watched.choose(file("One.jpg", SMALL), file("Two.jpg", SMALL))
        await expect(names).to_have_text(["Two.jpg", "One.jpg"])
        await watched.choose(file("Three.jpg", SMALL))
        await expect(names).to_have_text(["Three.jpg", "Two.jpg", "One.jpg"])
        await watched.page.reload()
        await expect(names).to_have_text(["Three.jpg", "Two.jpg", "One.jpg"])


async def test_it_says_what_it_is_and_leads_to_the_guide(tier_43: Tier, browser: Browser) -> None:
    """Queue, workers, dead letters; pages of the guide lead to each other and back."""
    with tier_43.serving():
        watched = await opened(browser, tier_43)
        page = watched.page
        await page.get_by_role("link", name="What happens here").click()
        about = page.locator("#about")
        await expect(about).to_be_in_viewport()
        for words in ("thumbnails", "Workers", "dead letter", "amqpjobs dead replay"):
            await expect(about).to_contain_text(words)
        await about.get_by_role("link", name="dead letters").click()
        await expect(page.get_by_role("heading", name="Dead letters", level=1)).to_be_visible()
        await page.get_by_role("navigation").get_by_role("link", name="Guide").click()
        await page.get_by_role("main").get_by_role("link").first.click()
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await page.get_by_role("link", name="Photo album", exact=True).click()
        await expect(page).to_have_url(tier_43.url)
        watched.check()


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_the_focus_is_seen_everywhere(colours: Any, tier_43: Tier, browser: Browser) -> None:
    """Whatever the keyboard reaches has a ring of its own: no picture covers it."""
    with tier_43.serving(), tier_43.working():
        watched = await opened(browser, tier_43, color_scheme=colours)
        await watched.choose(file("One.jpg", SMALL))
        await watched.has(1, of=1)
        await is_a_picture(watched.tile("One.jpg"))
        page = watched.page
        before = await still(page)
        for stop in ("What happens here", "From this", "Add photo", "Clear", "One.jpg", "write"):
            await page.keyboard.press("Tab")
            ring = page.locator(":focus, .button:has(:focus), .tile:has(:focus)").first
            await expect(ring).to_contain_text(stop)
            box = await ring.bounding_box()
            assert box is not None
            area = _around(box, 6)
            changed = changes(before, await still(page), area)
            # A ring three pixels wide, of which a line of text may leave some corners.
            assert changed >= 2 * 2 * (box["width"] + box["height"]), stop
        watched.check()


def _around(box: Any, by: int) -> tuple[float, ...]:
    right, bottom = box["x"] + box["width"], box["y"] + box["height"]
    return (box["x"] - by, box["y"] - by, right + by, bottom + by)


async def still(page: Page) -> Image.Image:
    """All of the page as it is seen, when nothing moves any more."""
    return Image.open(io.BytesIO(await page.screenshot(animations="disabled"))).convert("RGB")


def changes(one: Image.Image, other: Image.Image, area: tuple[float, ...]) -> int:
    """How many pixels differ clearly."""
    box = tuple(round(side) for side in area)
    difference = ImageChops.difference(one.crop(box), other.crop(box)).convert("L")  # type: ignore[arg-type]
    return sum(difference.point(lambda value: value > 40).histogram()[1:])


async def test_fifty_at_once_and_one_stream(tier_43: Tier, browser: Browser) -> None:
    """A browser has six connections to a server: fifty streams would wait for each other."""
    with tier_43.serving(), tier_43.working():
        watched = await opened(browser, tier_43)
        await watched.choose(*(file(f"{n:02}.jpg", SMALL) for n in range(50)))
        await watched.has(50, of=50)
        assert await watched.page.locator(".tile img:visible").count() == 50
        watched.check()


async def test_names_are_text_and_no_paths(tier_43: Tier, browser: Browser) -> None:
    """A file's name comes from a stranger."""
    hostile = "<img src=x onerror=window.owned=1>.jpg"
    with tier_43.serving(), tier_43.working():
        watched = await opened(browser, tier_43)
        await watched.choose(file(hostile, SMALL), file("a&b\"c'.jpg", b"no picture"))
        await watched.has(1, of=2)
        await expect(watched.page.locator(".name").nth(1)).to_have_text(hostile)
        await expect(watched.page.locator(".tile").first).to_contain_text("not a JPEG, PNG")
        assert await watched.page.evaluate("window.owned") is None
        names = {path.name for path in tier_43.album.rglob("*") if path.is_file()}
        assert not any("owned" in name for name in names)
        assert {len(Path(name).stem) for name in names} == {36}
        watched.check()


async def test_those_that_are_here_are_chosen_by_keyboard(tier_43: Tier, browser: Browser) -> None:
    """Without a mouse, from the first key on; and the focus comes back."""
    with tier_43.serving(), tier_43.working():
        watched = await opened(browser, tier_43)
        page = watched.page
        button = page.get_by_role("button", name="From this server")
        await expect(button).to_be_visible()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="What happens here")).to_be_focused()
        await page.keyboard.press("Tab")
        await expect(button).to_be_focused()
        await page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Photographs on this server")
        await expect(dialog).to_be_visible()
        await expect(dialog.get_by_role("checkbox")).to_have_count(2)
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        await expect(button).to_be_focused()

        await page.keyboard.press("Enter")
        await dialog.get_by_label("Garden.jpg").focus()
        await page.keyboard.press("Space")
        await dialog.get_by_role("button", name="Add 1").focus()
        await page.keyboard.press("Enter")
        await watched.has(1, of=1)
        await is_a_picture(watched.tile("Garden.jpg"))
        watched.check()


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_it_fits_a_telephone_in_both_colours(
    colours: Any, tier_43: Tier, browser: Browser
) -> None:
    """Nothing has to be scrolled sideways, and text stands out from its ground."""
    with tier_43.serving(), tier_43.working():
        watched = await opened(
            browser, tier_43, viewport={"width": 360, "height": 740}, color_scheme=colours
        )
        long = "a_very_long_name_without_any_space_in_it_as_cameras_like_to_give_them.jpg"
        await watched.choose(file(long, SMALL), file(f"Broken_{long}", b"no picture"))
        await watched.has(1, of=2)
        widths = "() => [document.documentElement.scrollWidth, innerWidth]"
        scrolled, width = await watched.page.evaluate(widths)
        assert scrolled <= width
        for place in ("h1", "header p", ".name", ".state", "[data-kind=failed] .state", "#clear"):
            assert await watched.page.locator(place).first.evaluate(CONTRAST) >= 4.5, place
        watched.check()


CONTRAST = """
// The contrast of an element's text with what is behind it, by WCAG 2.
element => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  const isClear = (colour) => (parts(colour)[3] ?? 1) === 0;
  while (isClear(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
  const [a, b] = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]
    .map(light).sort((one, other) => other - one);
  return (a + 0.05) / (b + 0.05);
}
"""


async def test_what_is_cleared_is_gone_from_the_page(tier_43: Tier, browser: Browser) -> None:
    """And stays so after a reload."""
    with tier_43.serving():
        watched = await opened(browser, tier_43)
        await watched.choose(file("One.jpg", SMALL))
        await expect(watched.tile("One.jpg")).to_be_visible()
        await watched.page.get_by_role("button", name="Clear").click()
        await expect(watched.page.locator(".tile")).to_have_count(0)
        await watched.page.reload()
        await expect(watched.page.get_by_text("Drop photographs here")).to_be_visible()
        await expect(watched.page.locator(".tile")).to_have_count(0)


async def test_what_is_cleared_while_it_is_sent_stays_away(tier_43: Tier, browser: Browser) -> None:
    """The server's answer comes when the page has forgotten what it is about."""
    cleared = asyncio.Event()

    async def hold(route: Route) -> None:
        await cleared.wait()
        await route.continue_()

    with tier_43.serving():
        watched = await opened(browser, tier_43)
        page = watched.page
        await page.route("**/photographs/*?name=*", hold)
        await watched.choose(file("One.jpg", SMALL))
        await expect(watched.tile("One.jpg")).to_be_visible()
        await page.get_by_role("button", name="Clear").click()
        async with page.expect_response(lambda answer: answer.request.method == "PUT"):
            cleared.set()
        drawn = (
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        await page.evaluate(drawn)
        await expect(page.locator(".tile")).to_have_count(0)


async def test_a_photograph_that_is_too_large_is_not_even_sent(
    tier_43: Tier, browser: Browser, tmp_path: Path
) -> None:
    """The page says why at once."""
    huge = tmp_path / "Huge.jpg"
    with huge.open("wb") as made:
        made.truncate(25_000_001)
    with tier_43.serving():
        watched = await opened(browser, tier_43)
        await watched.choose(huge)
        await expect(watched.tile("Huge.jpg")).to_contain_text("may have up to 25 MB")
        assert not any("Huge" in url for url in watched.requests)
