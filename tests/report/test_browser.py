"""The page in a real browser: nothing overflows on a phone or a wide screen, in light and dark, and nothing fails."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.image import imread

from certimetric.report import render_audit

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=3000",
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page was not looked at")

# A frame is as narrow as a phone; a window of Chromium is not. The frame tells what sticks out of it.
PROBE = """<!doctype html><iframe id="f" src="{page}" style="width:{width}px;height:6000px;border:0"></iframe>
<script>
document.getElementById("f").addEventListener("load", event => {{
  const page = event.target.contentDocument, wide = page.documentElement.scrollWidth;
  const text = page.body.innerText.length, sections = page.querySelectorAll("section").length;
  const heads = [...page.querySelectorAll("tbody th")].map(cell => cell.getBoundingClientRect().height);
  const tallest = Math.round(Math.max(...heads));
  document.title = `width=${{wide}} text=${{text}} sections=${{sections}} tallest=${{tallest}}`;
}});
</script>"""


def browse(tmp_path, *arguments):
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *FLAGS, profile, "--allow-file-access-from-files", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


PAGES = ("digits", "two models", "twelve models", "hostile retrieval", "embeddings", "hostile score")


@pytest.fixture
def page(request, tmp_path, make_document):
    name = getattr(request, "param", "digits")
    path = tmp_path / "report.html"
    path.write_text(render_audit(make_document(name)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "page",
    [pytest.param(name, marks=[] if name in ("digits", "hostile retrieval") else [pytest.mark.slow]) for name in PAGES],
    indirect=True,
)
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_sticks_out(request, tmp_path, page, width):
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(page=page.as_uri(), width=width), encoding="utf-8")
    done = browse(tmp_path, "--window-size=1500,6200", "--dump-dom", probe.as_uri())
    found = re.search(r"<title>width=(\d+) text=(\d+) sections=(\d+) tallest=(\d+)</title>", done.stdout)
    assert found, done.stderr[-500:]
    scroll_width, text, sections, tallest = map(int, found.groups())
    assert scroll_width <= width
    assert text > 2000
    assert sections >= 6
    # Names are broken between words, not into letters; one of 200 letters without a space has to be.
    assert tallest < (450 if "hostile" in request.node.callspec.id else 150)


@pytest.mark.parametrize("page", ["digits", pytest.param("two models", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshot_is_a_page_in_light_and_in_dark(tmp_path, page, scheme):
    picture = tmp_path / "page.png"
    setting = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    log = browse(
        tmp_path,
        "--window-size=1400,3000",
        setting,
        "--enable-logging=stderr",
        f"--screenshot={picture}",
        page.as_uri(),
    )
    assert "CONSOLE" not in log.stderr, log.stderr[-500:]
    pixels = imread(picture)[..., :3]
    assert pixels.shape[:2] == (3000, 1400)
    background = np.median(pixels.reshape(-1, 3), axis=0).mean()
    assert background > 0.8 if scheme == "light" else background < 0.3
    # Not blank: text, lines and colours stand out from the background in every stretch of the page.
    for stretch in np.array_split(pixels, 4):
        assert (np.abs(stretch - np.median(pixels.reshape(-1, 3), axis=0)).max(axis=-1) > 0.3).mean() > 0.005
