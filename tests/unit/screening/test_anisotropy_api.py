"""REST over tables in memory: answers, errors that name the field, tokens, hostile questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from anisotropy_samples import Collections, prediction, run, structure
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmace_flows.execution.settings import Settings
from mmace_flows.screening.access import PAGE_POLICY, Access
from mmace_flows.screening.api import create_app
from mmace_flows.screening.builder import build_anisotropy
from mmace_flows.screening.query import AnisotropyQuery

TOKEN = "a-token-of-good-length-0123"
TEMPLATE = "http://127.0.0.1:8321"


@pytest.fixture(scope="module")
def built() -> Collections:
    stores = Collections()
    stores.add(*(prediction(structure(["Fe", other]), k1=k1) for other, k1 in (("Pt", 4.0), ("Al", -1.0), ("Co", 2.0))))
    stores.add(run(structure(["Fe", "Pt"])))
    build_anisotropy(stores)
    return stores


def client_of(stores: Collections, folder: Path, access: Access = Access()) -> TestClient:
    app = create_app(lambda: stores.anisotropy._collection, Settings(data_dir=folder), access)
    return TestClient(app, base_url=TEMPLATE, raise_server_exceptions=True)


@pytest.fixture(scope="module")
def client(built: Collections, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return client_of(built, tmp_path_factory.mktemp("data"))


def test_rows_filtered_sorted_and_by_page(client: TestClient) -> None:
    found = client.get("/api/anisotropy").json()
    assert [row["formula"] for row in found["rows"]] == ["FePt", "FeCo", "AlFe"] and found["total"] == 3
    found = client.get("/api/anisotropy?elements=Fe&exclude=Pt&sort=k1&limit=1&page=2").json()
    assert [row["formula"] for row in found["rows"]] == ["FeCo"] and (found["total"], found["page"]) == (2, 2)
    assert client.get("/api/anisotropy?elements=Fe&elements=Pt").json()["total"] == 1
    assert client.get("/api/anisotropy?level=DFT").json()["rows"][0]["spread"] > 0
    assert client.get("/api/anisotropy?min_k1=1000").json() == {
        "total": 0, "total_is_exact": True, "page": 1, "limit": 50, "rows": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        ("elements=Fe,Xx", "elements", "'Xx' is no chemical element"),
        ("min_k1=abc", "min_k1", "expected a number, got 'abc'"),
        ("min_k1=inf", "min_k1", "finite number"),
        ("limit=1000000", "limit", "less than or equal to 1000"),
        ("page=99999999999999999999", "page", ""),
        ("sort=$where", "sort", "'$where' is no sort"),
        ("ordering[$ne]=FM", "ordering[$ne]", "unknown setting"),
        ("element=Fe", "element", "did you mean 'elements'?"),
        ("formula=.*", "formula", "is no chemical formula"),
        ("campaign=a%00b", "campaign", "is no name of a campaign"),
    ],
)
def test_a_bad_filter_answers_422_with_the_name_of_the_field(
    client: TestClient, asked: str, field: str, words: str
) -> None:
    for path in ("", "/points", "/export.csv", "/export.extxyz"):
        answer = client.get(f"/api/anisotropy{path}?{asked}")
        assert answer.status_code == 422
        (problem,) = answer.json()["detail"]
        assert problem["field"] == field and words in problem["message"]


def test_one_entry_with_structure_surface_and_comparison(client: TestClient) -> None:
    key = client.get("/api/anisotropy?formula=FePt").json()["rows"][0]["entry_id"]
    entry = client.get(f"/api/anisotropy/{key}").json()
    assert entry["level"] == "DFT" and entry["model"]["k1"] == 4.0
    cif = client.get(f"/api/anisotropy/{key}/structure.cif")
    assert "_cell_length_a" in cif.text and cif.headers["content-disposition"].endswith('"FePt-FM.cif"')
    assert "initial_magmoms:R:3" in client.get(f"/api/anisotropy/{key}/structure.extxyz").text
    assert json.loads(client.get(f"/api/anisotropy/{key}/structure.json").text) == entry["structure"]
    surface = client.get(f"/api/anisotropy/{key}/surface?rows=8").json()
    energies = surface["energies"]
    assert len(energies) == 9 and {len(row) for row in energies} == {17}
    # E = 3 meV sin²θ per cell of two atoms: 1.5 meV per atom at the equator, nothing at the poles
    assert energies[4] == pytest.approx([1.5] * 17, abs=1e-6) and energies[0] == pytest.approx([0.0] * 17, abs=1e-6)
    compared = client.get(f"/api/anisotropy/{key}/comparison").json()
    first = compared["quantities"][0]
    assert first["difference"] == pytest.approx(first["model"] - first["dft"])
    assert max(compared["circle"]["dft"]) == pytest.approx(1.5, abs=1e-6) and len(compared["circle"]["degrees"]) == 91
    only_model = client.get("/api/anisotropy?formula=FeCo").json()["rows"][0]["entry_id"]
    assert client.get(f"/api/anisotropy/{only_model}/surface?level=DFT").status_code == 404


def test_without_anisotropy_any_circle_is_shown(tmp_path: Path) -> None:
    along = [3**-0.5] * 3
    stores = Collections()
    stores.add(prediction(structure(["Fe", "Pt"]), k1=0.0, easy=along, hard=along))
    build_anisotropy(stores)
    client = client_of(stores, tmp_path)
    key = client.get("/api/anisotropy").json()["rows"][0]["entry_id"]
    circle = client.get(f"/api/anisotropy/{key}/comparison").json()["circle"]
    assert circle["model"] == pytest.approx([0.0] * 91)


@pytest.mark.parametrize("key", ["0" * 32, "zz", "../../etc/passwd", "%00", "a" * 4000, "{$ne:1}"])
def test_an_entry_that_is_not_there(client: TestClient, key: str) -> None:
    for tail in ("", "/surface", "/comparison", "/structure.cif"):
        answer = client.get(f"/api/anisotropy/{key}{tail}")
        assert answer.status_code in (404, 422) and answer.json()["detail"][0]["message"]


def test_facets_and_campaigns_without_any(client: TestClient) -> None:
    facets = client.get("/api/anisotropy/facets").json()
    assert facets["elements"] == ["Al", "Co", "Fe", "Pt"] and facets["entries"] == 3
    assert facets["space_groups"][0] == {"number": 123, "symbol": "P4/mmm"}
    assert client.get("/api/campaigns").json() == []


def test_it_only_reads_and_says_how_to_be_shown(client: TestClient) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client.request(method, "/api/anisotropy").status_code == 405
    page = client.get("/")
    assert page.headers["content-security-policy"] == PAGE_POLICY and "text/html" in page.headers["content-type"]
    assert client.get("/openapi.json").json()["paths"].keys() >= {"/api/anisotropy", "/api/campaigns/{name}/report"}
    assert client.get("/api/anisotropy", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/web/../access.py").status_code == 404 and client.get("/web/%2e%2e/access.py").status_code == 404


def test_a_token_is_asked_for_and_kept_as_a_cookie(built: Collections, tmp_path: Path) -> None:
    client = client_of(built, tmp_path, Access(TOKEN))
    assert client.get("/").status_code == 200  # the page holds no data, and asks for the token
    for path in ("/api/anisotropy", "/api/campaigns", "/openapi.json", "/api/session"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}x"}).status_code == 401
        assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.post("/api/session", headers={"Authorization": "Bearer wrong"}).status_code == 401
    answer = client.post("/api/session", headers={"Authorization": f"Bearer {TOKEN}"})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    assert client.get("/api/anisotropy").status_code == 200


HOSTILE = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["$where", "this.k1", "' || 1==1 //", "(a+)+$", ".*", "\x00", "Fe\x00Pt", "%00", '{"$gt":""}']),
    st.sampled_from(["1e308", "-0", "NaN", "1_0", "٣", "Ｆｅ", "\u202eFe", "<script>alert(1)</script>", "0x10"]),
    st.sampled_from(["A" * 3000, "9" * 400, "Fe," * 500]),
)
NAMES = st.one_of(
    st.sampled_from([*AnisotropyQuery.model_fields, "elements[$ne]", "$where", "min_k1[$gt]", "__proto__", "rows"]),
    st.text(max_size=20),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NAMES, HOSTILE), max_size=6))
def test_hostile_questions_are_answered_or_refused_in_good_form(
    client: TestClient, asked: list[tuple[str, str]]
) -> None:
    answer = client.get("/api/anisotropy", params=[(name, value) for name, value in asked])
    assert answer.status_code in (200, 414, 422)
    found: dict[str, Any] = answer.json()
    if answer.status_code == 422:
        assert found["detail"] and all(
            {"field", "message"} == set(problem) and problem["message"] for problem in found["detail"]
        )
        assert len(answer.text) < 5000
    assert "Traceback" not in answer.text and answer.headers["x-content-type-options"] == "nosniff"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40))
def test_hostile_bytes_in_the_question(client: TestClient, given_bytes: bytes) -> None:
    encoded = "".join(f"%{byte:02x}" for byte in given_bytes)
    for name in ("formula", "sort", "campaign", encoded or "x"):
        assert client.get(f"/api/anisotropy?{name}={encoded}").status_code in (200, 422)
