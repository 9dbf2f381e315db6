"""`make bench-camera`: photographs of real cards held before the page's camera, in headless Chromium.

INDEX is an index of the real cards, exported with --encoder. Each photograph that shows one card of the index is played
for SECONDS, one after another; the page keeps going and lists what it is sure of. Prints how many of the cards were
listed, what else was, frames a second and their parts, and the page's longest task (browsers tell of those from 50 ms).
"""

import json
import os
import re
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageOps
from playwright.sync_api import Page, sync_playwright

from helpers.embed.preprocess import as_seen
from helpers.evaluate.labelled import read_photos
from tests.browser import chromium, opened, serving_web
from tests.conftest import REAL
from tests.web_site import write_y4m

INDEX = Path(os.environ.get("INDEX", "index_out"))
SECONDS = int(os.environ.get("SECONDS", "3"))  # a photograph
SIZE = (1280, 720)
RATE = 2  # frames a second of the film; the camera repeats them
WATCH = """() => {
  window.longest = 0;
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) window.longest = Math.max(window.longest, duration);
  }).observe({ type: "longtask" });
}"""


def write_film(path: Path) -> list[str]:
    """Write the film; return the names of the cards that it shows."""
    there = {record["name"] for record in json.loads((INDEX / "meta.json").read_text())["records"]}
    photos = [photo for photo in read_photos(REAL / "photos.csv") if len(photo.labels) == 1 and photo.names <= there]
    pictures = [ImageOps.pad(as_seen(Image.open(photo.path)), SIZE) for photo in photos]
    write_y4m(path, [picture for picture in pictures for _ in range(RATE * SECONDS)], RATE)
    return [photo.labels[0].name for photo in photos]


def hold_before(page: Page, url: str, seconds: int) -> tuple[set[str], list[dict[str, float]], float]:
    """Play the film once: the names that the page lists, its figures each second, its longest task in ms (0: none)."""
    page.set_default_timeout(120_000)
    page.goto(f"{url}#identify")
    page.get_by_role("region", name="Loading").wait_for(state="hidden")
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("switch", name="Keep going").check()
    page.locator("#figures summary").click()
    page.locator("#figures dd").first.wait_for()
    page.evaluate(WATCH)
    figures = []
    for _ in range(seconds):
        page.wait_for_timeout(1000)
        what, values = (page.locator(f"#figures {part}").all_inner_texts() for part in ("dt", "dd"))
        figures.append({name: float(re.findall(r"[\d.]+", value)[0]) for name, value in zip(what, values, strict=True)})
    return set(page.locator("#seen-list .name").all_inner_texts()), figures, page.evaluate("() => window.longest")


def main() -> None:
    if not (REAL / "photos.csv").is_file() or not (INDEX / "bundle.json").is_file():
        sys.exit(f"needs the real photographs (MTG_REAL_DATA={REAL}) and an exported index (INDEX={INDEX})")
    problems: list[str] = []
    with TemporaryDirectory() as folder, sync_playwright() as playwright, serving_web(INDEX) as server:
        names = write_film(Path(folder) / "film.y4m")
        film = f"--use-file-for-fake-video-capture={folder}/film.y4m"
        flags = ["--no-sandbox", "--use-fake-device-for-media-stream", film]
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
        with opened(browser, problems, permissions=["camera"]) as page:
            listed, figures, longest = hold_before(page, server.url, len(names) * SECONDS + SECONDS)
    shown = set(names)
    print(f"{len(names)} photographs of {len(shown)} cards, {SECONDS} s each: {len(listed & shown)} cards listed")
    print(f"not listed: {sorted(shown - listed)}; listed, but not shown: {sorted(listed - shown)}")
    for what in figures[0]:
        print(f"  {what}: median {statistics.median(one[what] for one in figures):.1f}")
    print(f"longest task of the page: {f'{longest:.0f} ms' if longest else 'under 50 ms'}; problems: {problems}")


if __name__ == "__main__":
    main()
