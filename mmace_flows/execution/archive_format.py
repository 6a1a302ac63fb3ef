"""The archive file: plain members in one folder per kind, and a manifest with a checksum for each, at its end.

Read as if it came from an enemy: no links, no devices, no paths, no member that the manifest does not name, and no more
bytes than were asked for. Nothing is ever unpacked onto the disk.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mmace.errors import UserError

FORMAT = 1
MANIFEST = "manifest.json"
MEMBER = re.compile(r"(documents|arrays|models)/[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}")
SUFFIXES = (".tar.gz", ".tgz", ".tar.xz")
MANIFEST_BYTES = 256 * 1024**2
LARGEST_RATIO, FREE_BYTES = 200, 256 * 1024**2  # text packs thirtyfold; what packs far better is a bomb
CHUNK = 1024**2
BROKEN = (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error, ValueError)


class ArchiveWriter:
    """Writes members one after the other; `close` adds the manifest. The same content gives the same bytes."""

    def __init__(self, stream: IO[bytes], about: dict[str, Any]) -> None:
        self._tar = tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT)
        self._about = about
        self._files: dict[str, dict[str, Any]] = {}

    def add(self, name: str, stream: IO[bytes], size: int, **details: Any) -> None:
        """Add a member of ``size`` bytes; ``details`` go into the manifest."""
        reading = _Hashing(stream)
        self._tar.addfile(_header(name, size), reading)
        self._files[name] = {"bytes": size, "sha256": reading.digest(), **details}

    def close(self) -> None:
        """Write the manifest."""
        text = json.dumps(self._about | {"format": FORMAT, "files": self._files}, indent=1, sort_keys=True).encode()
        self._tar.addfile(_header(MANIFEST, len(text)), io.BytesIO(text))
        self._tar.close()


def _header(name: str, size: int) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size, found.mtime, found.mode = size, 0, 0o644  # no owner, no time: nothing of this machine
    return found


class _Hashing(io.RawIOBase):
    """A stream that counts and hashes what is read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._hash, self.count = stream, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        self.count += len(data)
        return data

    def digest(self) -> str:
        return self._hash.hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A compressed stream into the file, by its name's ending; the file is there in one piece or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as raw:
            with _compressing(path, raw) as stream:
                yield stream
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_name(path: Path) -> None:
    """Raise UserError for a file name whose ending says no known compression."""
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path}: an archive's name ends with one of {', '.join(SUFFIXES)}")


def _compressing(path: Path, raw: IO[bytes]) -> IO[bytes]:
    if path.name.endswith((".gz", ".tgz")):
        return gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0)  # type: ignore[return-value]
    return lzma.LZMAFile(raw, "wb", preset=6)  # type: ignore[return-value]


class _Plain(tarfile.TarInfo):
    """A header that means itself: extensions, which may hold any amount of data, are refused before they are read."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise UserError(f"'{self.name[:60]}' is not a plain file")
        return super()._proc_member(archive)  # type: ignore[misc]


def members(path: Path, largest: float) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each member, in the order of the file; at most ``largest`` bytes in all.

    Raises UserError for anything that an archive of ours does not hold.
    """
    seen: set[str] = set()
    total, packed = 0, path.stat().st_size
    try:
        with tarfile.open(path, "r|*", tarinfo=_Plain) as archive:
            for member in archive:
                if member.name != MANIFEST and not MEMBER.fullmatch(member.name):
                    raise UserError(f"{path}: no archive of a campaign: it holds '{member.name[:60]}'")
                if member.name in seen:
                    raise UserError(f"{path}: '{member.name}' stands in it twice")
                seen.add(member.name)
                total += member.size
                if total > largest:
                    raise UserError(f"{path}: holds more than {largest / 1e9:.3g} GB; --max-gb allows more")
                if total > LARGEST_RATIO * packed + FREE_BYTES:
                    raise UserError(f"{path}: {packed} bytes that unpack to {total} are no archive of a campaign")
                content = archive.extractfile(member)
                assert content is not None  # it is a plain file
                yield member.name, io.BufferedReader(_Content(content, path), CHUNK)
    except UserError as error:
        raise error if str(error).startswith(str(path)) else UserError(f"{path}: {error}") from error
    except BROKEN as error:
        raise _broken(path, error) from error


class _Content(io.RawIOBase):
    """Content of a member; a file that is cut off there is a user's error."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._stream, self._path = stream, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except BROKEN as error:
            raise _broken(self._path, error) from error
        buffer[: len(data)] = data
        return len(data)


def _broken(path: Path, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno is not None:
        return error  # the disk's fault, not the file's
    reason = " ".join(str(error).split()) or "it is cut off"
    return UserError(f"{path}: not a complete archive ({reason})")


def verify(path: Path, largest: float, tell: Any = None) -> dict[str, Any]:
    """The manifest, after every byte was compared with its checksum. Raises UserError."""
    found: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] | None = None
    for name, content in members(path, largest):
        if name == MANIFEST:
            manifest = _manifest(path, content.read(MANIFEST_BYTES))
            continue
        hashing = _Hashing(content)
        while hashing.read(CHUNK):
            if tell is not None:
                tell(hashing.count)
        found[name] = {"bytes": hashing.count, "sha256": hashing.digest()}
    if manifest is None:
        raise UserError(f"{path}: not a complete archive of a campaign: it has no manifest")
    listed = manifest["files"]
    for name in sorted({*listed, *found}):
        if name not in found or name not in listed:
            raise UserError(f"{path}: '{name[:60]}' is {'missing' if name not in found else 'not in its manifest'}")
        if any(found[name][part] != listed[name].get(part) for part in ("bytes", "sha256")):
            raise UserError(f"{path}: '{name}' is damaged: its checksum does not match")
    return manifest


def _manifest(path: Path, text: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
        good = isinstance(manifest["campaign"], str) and all(
            isinstance(one, dict) for one in manifest["files"].values()
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: its manifest is not readable") from error
    if not good or manifest.get("kind") != "mmace campaign":
        raise UserError(f"{path}: not an archive of a campaign")
    if manifest.get("format") != FORMAT:
        raise UserError(f"{path}: format {manifest.get('format')!r} is not known; this version reads format {FORMAT}")
    return manifest
