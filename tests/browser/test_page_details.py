"""One material, campaigns, token and first start in a real browser."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import expect

Server = Callable[..., str]  # of the fixture `serve`
TOKEN = "a-token-of-good-length-0123"


def picture(page: Any, place: int) -> np.ndarray:
    """Pixels [H,W,3] of one of the two scenes, as a person sees them."""
    shot = page.locator(".stage").nth(place).screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def open_fept(page: Any, address: str) -> None:
    page.goto(f"{address}/#/materials?formula=FePt&ordering=FM")
    page.locator("table.rows tbody a").first.click()
    expect(page.locator(".stage[data-painted]")).to_have_count(2)


def test_structure_and_surface_are_drawn_and_turn_together(page: Any, address: str) -> None:
    open_fept(page, address)
    expect(page.locator(".cards")).to_contain_text("MJ/m³")
    before = [picture(page, place) for place in (0, 1)]
    for pixels in before:
        background = pixels[2, 2]
        drawn = np.abs(pixels - background).sum(-1) > 40
        assert drawn.mean() > 0.02 and len(np.unique(pixels[drawn] // 16, axis=0)) > 20  # shaded, not flat
    page.locator(".stage canvas").first.focus()
    for _ in range(4):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("+")
    page.wait_for_timeout(500)
    for place in (0, 1):
        assert (np.abs(picture(page, place) - before[place]).sum(-1) > 40).mean() > 0.01
    page.keyboard.press("0")
    page.wait_for_timeout(500)
    assert (np.abs(picture(page, 0) - before[0]).sum(-1) > 40).mean() < 0.005


def test_model_against_dft(page: Any, address: str) -> None:
    open_fept(page, address)
    expect(page.get_by_role("heading", name="Model against DFT")).to_be_visible()
    expect(page.locator(".curve")).to_have_count(2)
    page.locator(".surface-box").scroll_into_view_if_needed()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator(".segments", has_text="DFT").get_by_text("model").click()
    page.wait_for_selector(".surface-box .stage[data-painted]")
    assert any("surface?level=model" in url for url in asked)
    expect(page.locator(".provenance")).to_contain_text("gpaw")


def test_downloads_carry_vector_moments(page: Any, address: str) -> None:
    open_fept(page, address)
    with page.expect_download() as started:
        page.get_by_role("link", name="Extended XYZ").click()
    assert started.value.suggested_filename == "FePt-FM.extxyz"
    assert "initial_magmoms:R:3" in Path(started.value.path()).read_text()


def test_back_to_the_same_table(page: Any, address: str) -> None:
    open_fept(page, address)
    page.get_by_role("link", name="← Materials").click()
    expect(page).to_have_url(re.compile(r"formula=FePt&ordering=FM"))


def test_a_material_that_is_not_there(page: Any, address: str) -> None:
    page.goto(f"{address}/#/material/{'0' * 32}")
    expect(page.locator(".error")).to_contain_text("no entry 0000")
    page.goto(f"{address}/#/material/%3Cscript%3E")
    expect(page.locator(".error")).to_be_visible()


def test_campaigns_live_with_report(page: Any, address: str, table_folder: Path) -> None:
    page.goto(f"{address}/#/campaigns")
    expect(page.locator(".campaign-list li")).to_have_count(2)
    expect(page.locator(".campaign-list li", has_text="feni-small")).to_contain_text("finished")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Report").click()
    report = opened.value
    expect(report.locator("h1")).to_have_text("Report of feni-small")
    assert report.title() == ""  # its script did not run
    page.get_by_role("link", name="fe-co-pt").click()
    expect(page.locator(".events")).to_contain_text("<b>17</b> of 40 candidates kept")  # as text
    from mmace_flows.execution.settings import load_settings
    from mmace_flows.execution.stores import open_stores

    open_stores(load_settings(data_dir=table_folder)).event("fe-co-pt", "screen", "a new line")
    expect(page.locator(".events")).to_contain_text("a new line")  # without a reload
    page.goto(f"{address}/#/campaigns/nobody")
    expect(page.locator(".error")).to_contain_text("no campaign 'nobody'")


def test_the_token_is_asked_for_once(page: Any, serve: Server, table_folder: Path) -> None:
    guarded = serve(table_folder, MMACE_SERVE_TOKEN=TOKEN)
    page.goto(guarded)
    page.locator("#token").fill("a-wrong-token-of-some-length")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".token .problem")).to_have_text("That is not the token.")
    page.locator("#token").fill(TOKEN)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("table.rows tbody tr")).to_have_count(50)
    page.reload()
    expect(page.locator("table.rows tbody tr")).to_have_count(50)
    assert TOKEN not in page.evaluate("document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")


def test_an_empty_table_says_how_to_fill_it(page: Any, serve: Server, tmp_path: Path) -> None:
    # in a process of its own, so that this one keeps its connection to the other database
    code = "from mmace_flows.execution.stores import open_stores; open_stores()"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"MMACE_DATA_DIR": str(tmp_path)}, check=True)
    page.goto(serve(tmp_path))
    expect(page.get_by_role("heading", name="No materials yet")).to_be_visible()
    expect(page.locator("pre")).to_contain_text("mmace build anisotropy")
    page.get_by_role("link", name="Campaigns").first.click()
    expect(page.get_by_role("heading", name="No campaigns yet")).to_be_visible()
