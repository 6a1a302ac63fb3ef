"""`mmace export`: a campaign with all that it consists of, in one file that can be checked, moved and published."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bson.json_util import CANONICAL_JSON_OPTIONS, dumps

from mmace.errors import UserError
from mmace_flows.execution.archive_contents import Contents
from mmace_flows.execution.archive_format import ArchiveWriter, check_name, writing
from mmace_flows.execution.blobs import arrays_of

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores

IN_MEMORY = 32 * 1024**2  # bytes of one collection that are held in memory before a temporary file takes over
Tell = Callable[[str, int, int], None]  # (what, done, of)


def line_of(document: dict[str, Any]) -> bytes:
    """A document as one line of text that keeps every type of BSON, the same for the same content."""
    return dumps(document, json_options=CANONICAL_JSON_OPTIONS, sort_keys=True).encode() + b"\n"


def export(
    stores: Stores, campaign: str, path: Path, overwrite: bool = False, tell: Tell | None = None
) -> dict[str, Any]:
    """Write the campaign into ``path``; returns counts by collection, ``arrays`` and ``models``, and ``bytes``.

    Raises UserError: no such campaign, a file in the way, results that wait on disk and would be missing.
    """
    from mmace_flows import __version__
    from mmace_flows.execution.campaign import require_campaign
    from mmace_flows.execution.spool import Spool

    check_name(path)
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists; --overwrite replaces it")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")
    require_campaign(stores, campaign)
    arrays_of(stores)
    if waiting := Spool.of(stores.connection).waiting():
        raise UserError(f"{len(waiting)} results still wait on disk; store them first with `mmace deliver`")
    contents = Contents(stores, campaign)
    tell = tell or (lambda what, done, of: None)
    counts: dict[str, Any] = {}
    with writing(path) as stream:
        writer = ArchiveWriter(stream, {"kind": "mmace campaign", "campaign": campaign, "code_version": __version__})
        for collection in sorted(contents.ids):
            counts[collection] = _add_documents(writer, contents, collection, tell)
        for kind, (place, blobs) in contents.blobs().items():
            for done, blob in enumerate(blobs, 1):
                content, length = place.read(blob)
                writer.add(f"{kind}/{blob.name}", content, length, metadata=_plain(blob.details))
                tell(kind, done, len(blobs))
            counts[kind] = len(blobs)
        writer.close()
    return counts | {"bytes": path.stat().st_size}


def _plain(metadata: dict[str, Any]) -> Any:
    import json

    return json.loads(line_of(metadata))


def _add_documents(writer: ArchiveWriter, contents: Contents, collection: str, tell: Tell) -> int:
    count, of = 0, len(contents.ids[collection])
    if not of:
        return 0
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as lines:
        for document in contents.documents(collection):
            lines.write(line_of(document))
            count += 1
            if count % 500 == 0 or count == of:
                tell(collection, count, of)
        size = lines.tell()
        lines.seek(0)
        stream: IO[bytes] = lines  # type: ignore[assignment]
        writer.add(f"documents/{collection}.jsonl", stream, size, documents=count)
    return count
