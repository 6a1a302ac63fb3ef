"""Campaigns exported, imported, exported again; archives that are damaged or hostile; garbage."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from mmace.errors import UserError
from mmace_flows.execution.archive_export import export
from mmace_flows.execution.archive_import import import_archive
from mmace_flows.execution.collect_garbage import delete, find_garbage
from mmace_flows.execution.settings import Settings

pytestmark = pytest.mark.engine
OWN, OTHER = "a" * 32, "b" * 32  # label keys


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


@pytest.fixture(scope="module")
def opened(folder: Path) -> Iterator[Callable[[str], Any]]:
    """Opens the stores of a data folder, all of them over one embedded server each."""
    from mmace_flows.execution.connection import disconnect
    from mmace_flows.execution.stores import open_stores

    patch = pytest.MonkeyPatch()

    def open_named(name: str) -> Any:
        # stores of jobs find their server by the environment
        patch.setenv("MMACE_DATA_DIR", str(folder / name))
        return open_stores(Settings(data_dir=folder / name))

    yield open_named
    disconnect()
    patch.undo()


@pytest.fixture(scope="module")
def first(opened: Callable[[str], Any]) -> Any:
    """A database with two campaigns, of which the second uses a label of the first."""
    stores = opened("first")
    model = stores.save_model(b"weights of iteration 1", {"model_hash": "c" * 32, "iteration": 1})
    stores.save_model(b"nobody's weights", {"model_hash": "d" * 32})
    for name in ("feni", "other"):
        campaign = {"campaign": name, "recipe": "workflows/feni.py", "preset": "small", "settings": {"a": 1}}
        campaign |= {"settings_hash": "0", "code_version": "1", "created": "2026-01-01T00:00:00+00:00"}
        details = {"recipe_file": "/somewhere/feni.py", "runner": None, "note": "kept"}
        stores.campaigns.update(campaign | {"finished": "2026-01-02", "firework_ids": [7], "details": details})
        stores.event(name, "label", f"a line of {name}", energy=-1.5)
        stores.event(name, "label", f"another line of {name}")
    stores.labels.update([{"label_key": OWN, "campaign": "feni", "free_energy": -8.25, "forces": [[0.1, 1e-17, -0.3]]}])
    stores.labels.update([{"label_key": OTHER, "campaign": "other", "free_energy": -7.5}])
    stores.labels.update([{"label_key": "e" * 32, "campaign": "other", "free_energy": -7.0}])
    state = {
        "loop_id": "feni/1",
        "campaign": "feni",
        "iteration": 1,
        "training_keys": [OWN, OTHER],
        "model_hash": model,
    }
    stores.loop_states.update(state)
    job = {"uuid": "u-1", "index": 1, "name": "label: x", "metadata": {"campaign": "feni"}, "hosts": []}
    stores.jobs.update(job | {"output": {"key": OWN, "array": [1.0] * 1000}}, save={"data": ["array"]})
    return stores


@pytest.fixture(scope="module")
def archive(first: Any, folder: Path) -> Path:
    counts = export(first, "feni", folder / "feni.tar.gz")
    assert {name: number for name, number in counts.items() if number and name != "bytes"} == {
        "campaigns": 1, "events": 2, "labels": 2, "loop_states": 1, "jobs": 1, "arrays": 1, "models": 1,
    }  # fmt: skip
    return folder / "feni.tar.gz"


def test_the_same_bytes_there_and_back(first: Any, archive: Path, opened: Callable[[str], Any], folder: Path) -> None:
    export(first, "feni", folder / "again.tar.gz")
    assert (folder / "again.tar.gz").read_bytes() == archive.read_bytes(), "the same campaign gives the same file"
    second = opened("second")
    result = import_archive(second, archive)
    assert result.campaign == "feni" and result.new.total() == 9 and not result.there and not result.kept
    export(second, "feni", folder / "back.tar.gz")
    assert (folder / "back.tar.gz").read_bytes() == archive.read_bytes(), "nothing was lost or changed"
    assert second.load_model("c" * 32) == b"weights of iteration 1"
    assert second.jobs.query_one({"uuid": "u-1"}, load=True)["output"]["array"] == [1.0] * 1000
    assert second.labels.query_one({"label_key": OWN})["forces"] == [[0.1, 1e-17, -0.3]], "to the last digit"
    lines = [one["message"] for one in second.events._collection.find({}).sort("_id", 1)]
    assert lines == ["a line of feni", "another line of feni"], "in the order in which they happened"
    campaign = second.campaigns.query_one({"campaign": "feni"})
    assert campaign["details"] == {"note": "kept"} and campaign["firework_ids"] == []

    result = import_archive(second, archive)
    assert not result.new and result.there.total() == 9, "a second time changes nothing"
    export(first, "feni", folder / "small.tar.xz")
    assert not import_archive(second, folder / "small.tar.xz").new, "the other compression holds the same"


def test_nothing_is_overwritten(archive: Path, opened: Callable[[str], Any]) -> None:
    third = opened("third")
    third.labels.update({"label_key": OWN, "campaign": "mine", "free_energy": -8.2500001})
    result = import_archive(third, archive)
    assert result.kept == {"labels": 1} and third.labels.query_one({"label_key": OWN})["campaign"] == "mine"
    third.campaigns._collection.update_one({"campaign": "feni"}, {"$set": {"settings": {"a": 2}}})
    third.events._collection.delete_many({})
    with pytest.raises(UserError, match=r"campaign 'feni' is here already and differs .*; nothing was changed"):
        import_archive(third, archive)
    assert third.events.count() == 0


def test_half_an_import_is_completed(archive: Path, opened: Callable[[str], Any]) -> None:
    stores = opened("fourth")
    import_archive(stores, archive)
    stores.campaigns._collection.delete_many({})
    stores.events._collection.delete_one({})
    stores.connection.database["models.files"].delete_many({})
    result = import_archive(stores, archive)
    assert result.new == {"campaigns": 1, "events": 1, "models": 1}
    assert stores.load_model("c" * 32) == b"weights of iteration 1"


def rewritten(archive: Path, path: Path, change: Callable[[dict[str, bytes]], None], honest: bool = True) -> Path:
    """A copy of the archive with other content; ``honest``: its manifest tells the new checksums."""
    with tarfile.open(archive) as tar:
        content = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    change(content)
    if honest:
        manifest = json.loads(content.pop("manifest.json"))
        manifest["files"] = {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in content.items()
        }
        content["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"


LABEL = {"label_key": "f" * 32, "campaign": "feni"}
SYSTEM = {"@module": "os", "@callable": "system"}
FOREIGN = {"event_id": "1", "campaign": "other"}
DAMAGES: list[tuple[str, bool, Callable[[dict[str, bytes]], Any]]] = [
    (r"'documents/labels.jsonl' is damaged", False, lambda c: c.update({"documents/labels.jsonl": b"{}\n"})),
    (r"'models/c+' is missing", False, lambda c: c.pop("models/" + "c" * 32)),
    (r"'models/x' is not in its manifest", False, lambda c: c.update({"models/x": b"1"})),
    (r"has no manifest", False, lambda c: c.pop("manifest.json")),
    (r"its manifest is not readable", False, lambda c: c.update({"manifest.json": b"{"})),
    (r"holds '\.\./\.\./evil'", True, lambda c: c.update({"../../evil": b"1"})),
    (r"holds '/etc/evil'", True, lambda c: c.update({"/etc/evil": b"1"})),
    (r"holds 'documents/\.\./x'", True, lambda c: c.update({"documents/../x": b"1"})),
    (r"collection 'fireworks' that", True, lambda c: c.update({"documents/fireworks.jsonl": _line(LABEL)})),
    (r"line 1: not a document", True, lambda c: c.update({"documents/labels.jsonl": b"nonsense\n"})),
    (r"line 1: field 'label_key' is missing", True, lambda c: c.update({"documents/labels.jsonl": _line({"a": 1})})),
    (r"belongs to another campaign", True, lambda c: c.update({"documents/events.jsonl": _line(FOREIGN)})),
    (r"os\.system", True, lambda c: c.update({"documents/labels.jsonl": _line(LABEL | {"x": SYSTEM})})),
    (r"label_key' is missing", True, lambda c: c.update({"documents/labels.jsonl": _line({"label_key": {"$gt": ""}})})),
]  # fmt: skip


@pytest.mark.parametrize(("message", "honest", "change"), DAMAGES, ids=[one[0] for one in DAMAGES])
def test_damaged_and_hostile_archives(
    message: str, honest: bool, change: Callable[[dict[str, bytes]], Any], archive: Path, opened: Any, tmp_path: Path
) -> None:
    stores = opened("untouched")
    path = rewritten(archive, tmp_path / "bad.tar.gz", change, honest)
    with pytest.raises(UserError, match=message) as refusal:
        import_archive(stores, path)
    assert "\n" not in str(refusal.value)
    assert stores.labels.count() == 0 and stores.campaigns.count() == 0 and stores.events.count() == 0


def test_links_bombs_and_halves(archive: Path, opened: Callable[[str], Any], tmp_path: Path) -> None:
    stores = opened("untouched")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tmp_path / "link.tar.gz", "w:gz", format=tarfile.USTAR_FORMAT) as tar:
            member = tarfile.TarInfo("models/x")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        with pytest.raises(UserError, match="'models/x' is not a plain file"):
            import_archive(stores, tmp_path / "link.tar.gz")
    with tarfile.open(tmp_path / "pax.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("models/x")
        member.pax_headers = {"comment": "x" * 10_000_000}
        tar.addfile(member)
    with pytest.raises(UserError, match="not a plain file"):
        import_archive(stores, tmp_path / "pax.tar.gz")

    class Zeros(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz", compresslevel=9, format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo("models/x")
        member.size = 400_000_000
        tar.addfile(member, Zeros())
    with pytest.raises(UserError, match="that unpack to 400000000 are no archive"):
        import_archive(stores, tmp_path / "bomb.tar.gz")
    with pytest.raises(UserError, match="holds more than 1e-06 GB; --max-gb allows more"):
        import_archive(stores, archive, largest_gb=1e-6)

    for cut in (10, archive.stat().st_size // 2, archive.stat().st_size - 100):
        (tmp_path / "half.tar.gz").write_bytes(archive.read_bytes()[:cut])
        with pytest.raises(UserError, match=r"half\.tar\.gz: "):
            import_archive(stores, tmp_path / "half.tar.gz")
    (tmp_path / "text.tar.gz").write_bytes(gzip.compress(b"a letter to a friend"))
    with pytest.raises(UserError, match="not a complete archive"):
        import_archive(stores, tmp_path / "text.tar.gz")
    with pytest.raises(UserError, match="no such file"):
        import_archive(stores, tmp_path / "nothing.tar.gz")


def test_export_says_what_is_wrong(first: Any, archive: Path, tmp_path: Path, opened: Callable[[str], Any]) -> None:
    opened("first")
    with pytest.raises(UserError, match="--overwrite replaces it"):
        export(first, "feni", archive)
    with pytest.raises(UserError, match=r"ends with one of \.tar\.gz"):
        export(first, "feni", tmp_path / "feni.zip")
    with pytest.raises(UserError, match="no campaign 'fen'; known: feni, other"):
        export(first, "fen", tmp_path / "feni.tar.gz")
    with pytest.raises(UserError, match="there is no folder"):
        export(first, "feni", tmp_path / "nowhere" / "feni.tar.gz")
    assert list(tmp_path.iterdir()) == []


def test_garbage(first: Any, opened: Callable[[str], Any], folder: Path) -> None:
    opened("first")
    database = first.connection.database
    first.save_model(b"x")
    database["models.chunks"].insert_one({"files_id": ObjectId(), "n": 0, "data": b"cut off"})
    first.arrays.update({"blob_uuid": "lost", "data": [1, 2, 3]}, key="blob_uuid")
    scratch = first.scratch("feni", "train-1") / "state"
    scratch.write_bytes(bytes(1000))
    assert find_garbage(first) == [], "younger than a day"
    now = timedelta(seconds=-5)  # whatever is older than in five seconds: everything
    found = {(one.kind, one.name): one for one in find_garbage(first, now)}
    key = hashlib.sha256(b"x").hexdigest()[:32]
    assert {kind for kind, _ in found} == {"array", "model", "piece of an upload", "scratch"}
    assert {name for kind, name in found if kind == "model"} == {"d" * 32, key}, "the model of iteration 1 is used"
    assert [name for kind, name in found if kind == "array"] == ["lost"]
    assert found["scratch", "feni/scratch"].bytes == 1000
    for one in found.values():
        delete(first, one)
    assert find_garbage(first, now) == [] and not scratch.exists()
    assert first.load_model("c" * 32) and first.jobs.query_one({"uuid": "u-1"}, load=True)["output"]["array"]
    assert database["models.chunks"].count_documents({}) == 1
