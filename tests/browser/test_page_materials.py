"""The page of `mmace serve` as a person uses it: table, filters, sorting, picture, empty and error states."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

ROWS = "table.rows tbody tr"


def column(page: Any, place: int) -> list[str]:
    """Texts of a column, as they are shown."""
    return [text.strip() for text in page.locator(f"{ROWS} td:nth-child({place})").all_inner_texts()]


def numbers(page: Any, place: int) -> list[float]:
    found = (re.search(r"[−\d.]+", text) for text in column(page, place))
    return [float(one.group().replace("−", "-")) for one in found if one]


def ready(page: Any) -> None:
    """Wait until what the address asks for is shown."""
    expect(page.locator(".materials")).to_have_attribute("data-shown", page.url.partition("?")[2])


def test_table_sorts_by_its_headings(page: Any, address: str) -> None:
    page.goto(address)
    expect(page.locator(ROWS)).to_have_count(50)
    assert numbers(page, 4) == sorted(numbers(page, 4), reverse=True)
    expect(page.locator("th", has_text="K₁")).to_have_attribute("aria-sort", "descending")
    page.get_by_role("button", name=re.compile("K₁")).click()
    expect(page.locator("th", has_text="K₁")).to_have_attribute("aria-sort", "ascending")
    assert numbers(page, 4) == sorted(numbers(page, 4)) and numbers(page, 4)[0] < 0
    page.get_by_role("button", name="Material", exact=True).click()
    expect(page).to_have_url(re.compile("sort=formula"))
    expect(page.locator("th", has_text="Material")).to_have_attribute("aria-sort", "ascending")
    assert column(page, 1) == sorted(column(page, 1))
    # the heading that was pressed still has the focus: the next press turns the order
    page.keyboard.press("Enter")
    expect(page.locator("th", has_text="Material")).to_have_attribute("aria-sort", "descending")


def test_pages(page: Any, address: str) -> None:
    page.goto(address)
    expect(page.locator(".count")).to_have_text(re.compile(r"1–50 of \d+ materials"))
    first = column(page, 1)
    page.get_by_role("button", name="Next →").click()
    expect(page.locator(".count")).to_have_text(re.compile("^51–"))
    expect(page.get_by_role("button", name="Next →")).to_be_disabled()
    page.go_back()
    expect(page.locator(".count")).to_have_text(re.compile("^1–50"))
    assert column(page, 1) == first


def test_elements_are_taken_in_and_excluded_and_the_address_keeps_it(page: Any, address: str) -> None:
    page.goto(address)
    page.get_by_role("button", name="Fe: not filtered").click()
    expect(page.get_by_role("button", name="Fe: must be there")).to_be_focused()
    ready(page)
    assert all("Fe" in one for one in column(page, 1))
    page.get_by_role("button", name="Pt: not filtered").click()
    page.get_by_role("button", name="Pt: must be there").click()
    expect(page.get_by_role("button", name="Pt: excluded")).to_be_visible()
    ready(page)
    assert all("Fe" in one and "Pt" not in one for one in column(page, 1)) and column(page, 1)
    page.reload()
    expect(page.get_by_role("button", name="Pt: excluded")).to_be_visible()
    assert all("Fe" in one and "Pt" not in one for one in column(page, 1))
    page.get_by_text("at least one").click()
    expect(page).to_have_url(re.compile("any_of=Fe"))
    page.get_by_role("button", name="Clear all filters").click()
    expect(page.get_by_role("button", name="Fe: not filtered")).to_be_visible()
    assert page.get_by_role("button", name="Au: not filtered").is_disabled()  # no material has gold


def test_the_periodic_table_by_keyboard(page: Any, address: str) -> None:
    page.goto(address)
    page.get_by_role("button", name="Fe: not filtered").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="Co: not filtered")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Fe: must be there")).to_be_focused()


def test_filters_by_value_and_order(page: Any, address: str) -> None:
    page.goto(address)
    page.get_by_label("K₁ at least").fill("2")
    page.get_by_label("K₁ at least").press("Enter")
    expect(page).to_have_url(re.compile("min_k1=2"))
    page.locator("label.chip", has_text="AFM").click()
    expect(page).to_have_url(re.compile("ordering=AFM"))
    ready(page)
    assert set(column(page, 3)) == {"AFM"} and min(numbers(page, 4)) >= 2
    page.get_by_label("Values by").select_option("DFT")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    page.get_by_role("button", name="Clear all filters").click()
    expect(page.locator(ROWS)).to_have_count(50)


def test_filters_add_up_while_an_answer_is_awaited(page: Any, address: str) -> None:
    page.goto(address)
    expect(page.locator(ROWS)).to_have_count(50)
    page.evaluate(
        """() => {
            const k1 = document.querySelector("#f-min_k1");
            k1.value = "2";
            k1.dispatchEvent(new Event("change"));
            for (const one of ["#o-AFM", "#o-FM", "[data-symbol=Fe]", "[data-symbol=Pt]"])
                document.querySelector(one).click();
        }"""
    )
    expect(page).to_have_url(re.compile(r"elements=Fe,Pt&ordering=FM,AFM&min_k1=2"))


def test_a_wrong_value_is_told_at_its_field(page: Any, address: str) -> None:
    page.goto(address)
    page.get_by_label("K₁ at least").fill("much")
    page.get_by_label("K₁ at least").press("Enter")
    expect(page.locator("#p-min_k1")).to_have_text("expected a number, got 'much'")
    expect(page.get_by_label("K₁ at least")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("K₁ at least").fill("1")
    page.get_by_label("K₁ at least").press("Enter")
    expect(page.locator(ROWS).first).to_be_visible()
    assert page.locator(".problem").count() == 0


def test_what_an_address_says_is_text_and_never_code(page: Any, address: str) -> None:
    page.goto(f"{address}/#/materials?formula=<img src=x onerror=alert(1)>&campaign=</script><script>alert(1)</script>")
    expect(page.locator(".error")).to_contain_text("is no chemical formula")
    assert page.locator("main img").count() == 0 and page.locator("main script").count() == 0


def test_the_picture_opens_a_material(page: Any, address: str) -> None:
    page.goto(address)
    dots = page.locator(".scatter .dot")
    expect(dots).to_have_count(84)  # every row of the sample
    expect(page.locator(".hardness.one")).to_have_count(1)
    page.locator(".scatter svg").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tip")).to_contain_text("MJ/m³")
    page.keyboard.press("Enter")
    expect(page.locator(".material-head h1")).to_be_visible()


def test_the_same_question_elsewhere(page: Any, address: str) -> None:
    page.goto(f"{address}/#/materials?elements=Fe,Pt&min_k1=1")
    page.get_by_text("The same question elsewhere").click()
    expect(page.locator(".elsewhere")).to_contain_text("mmace query anisotropy --elements Fe,Pt --min-k1 1")
    with page.expect_download() as started:
        page.get_by_role("link", name="CSV").click()
    assert Path(started.value.path()).read_text().startswith("entry_id,formula,elements")


def test_a_server_that_is_gone_and_comes_back(page: Any, address: str) -> None:
    page.route("**/api/**", lambda route: route.abort())
    page.goto(address)
    expect(page.locator(".error")).to_contain_text("The server does not answer")
    page.unroute("**/api/**")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(ROWS)).to_have_count(50)


@pytest.mark.parametrize("width", [360, 768, 1024, 1440])
def test_nothing_sticks_out_of_the_window(page: Any, address: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for place in ("#/materials", "#/campaigns"):
        page.goto(f"{address}/{place}")
        page.wait_for_selector("table.rows, .campaign-list")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_light(page: Any, address: str) -> None:
    page.goto(address)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark or light").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_the_system_says_dark_or_light_until_somebody_chooses(page: Any, address: str) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    page.goto(address)
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")  # without a reload
    assert page.evaluate(background) != light
    page.get_by_role("button", name="Dark or light").click()
    page.reload()
    assert page.evaluate(background) == light


def test_nothing_is_asked_of_anybody_else(page: Any, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.locator(ROWS).first.click()
    page.wait_for_selector("[data-painted]")
    assert len(asked) > 10 and all(url.startswith((address, "data:", "blob:")) for url in asked)
