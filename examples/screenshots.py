"""Takes the README's pictures from a real page, such as the one `innersight demo` writes.

Needs Playwright and a Chromium (set CHROMIUM to its path if it is not found).
Run: python examples/screenshots.py innersight-demo/report.html [--out examples/images]
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
SIZE = {"width": 1400, "height": 850}
# The community whose closing costs most: its row is the first of the table.
WORST = "document.querySelector('#communities tbody .link').click()"
PICTURES = {
    "report": ("light", "", None),
    "community": ("light", "", WORST),
    "communities-dark": ("dark", "#view=communities", None),
    "findings": ("light", "#tab=findings", None),
}


def smaller(shot: bytes) -> bytes:
    """The same picture in 256 colours, their means refined: a third of the size, hardly a visible difference."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(shot)) as image:
        image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, 4, dither=Image.Dither.NONE).save(
            out, "png", optimize=True
        )
    return out.getvalue()


def open_page(page: Page, file: Path, fragment: str, click: str | None) -> None:
    page.goto(file.resolve().as_uri() + fragment)
    page.wait_for_function("document.body.dataset.ready === 'true'")
    if click:
        page.evaluate(click)
    page.wait_for_timeout(400)


def main(file: Path, out: Path) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, (scheme, fragment, click) in PICTURES.items():
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)  # type: ignore[arg-type]
            open_page(page, file, fragment, click)
            path = out / f"{name}.png"
            path.write_bytes(smaller(page.screenshot()))
            written.append(path)
            page.close()
        browser.close()
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    options = parser.parse_args()
    for path in main(options.page, options.out):
        print(path, f"{path.stat().st_size / 1000:.0f} KB")
