"""Object stores: a run under a URL such as ``s3://bucket/run``, and its copy on this machine.

Files of a run are uploaded whole, which is atomic, and those in ``shards/`` and ``replies/`` never
change. So the copy is updated by fetching new files, and can be deleted at any time: the store has
everything. All readers read the copy.

``pyarrow.fs`` is the client (s3, gs, abfs, hdfs; `fsspec` for other schemes). Credentials and
endpoints come from the environment, as with other tools: ``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``,
``AWS_ENDPOINT_URL``, …
"""

import importlib
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import orjson
import pyarrow as pa
import pyarrow.fs as pafs

from rlaif.errors import InputError, RunError
from rlaif.models.fingerprint import cache_folder
from rlaif.records import content_id
from rlaif.runs.files import PARTIAL, make_folder, write_whole

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}([^/].*)", re.DOTALL)
_IMMUTABLE = ("replies", "shards")
_GROWING = ("failures.jsonl", "log.jsonl")
_REPLACED = "orphans.ids"
"""Small, and written anew with any content: its size says nothing."""

MANIFEST = "manifest.json"


def url_of(place: str | Path) -> str | None:
    """Return the URL of a path; None for a path on this machine.

    A `Path` made of a URL has lost a slash, which is restored.
    """
    match = _URL.fullmatch(str(place))
    return None if match is None else f"{match[1]}://{match[2].rstrip('/')}"


def local_copy(place: str | Path) -> Path:
    """Return the folder of a run on this machine; for a URL, the copy after an update.

    Raises:
        RunError: The store cannot be read.
        InputError: The library for this kind of URL is not installed.
    """
    url = url_of(place)
    return Path(place) if url is None else Store(url).fetch()


class Store:
    """One run in an object store.

    Args:
        url: Such as ``s3://bucket/run``.

    Attributes:
        copy: The folder of its copy on this machine.

    Raises:
        InputError: The library for this kind of URL is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._root = _connect(url)
        self._flat = self._files.type_name in ("s3", "gcs", "abfs")
        """Whether the store has no folders to create."""

        name = PurePosixPath(url).name
        self.copy = cache_folder() / "runs" / f"{name}-{content_id('store', url)[:12]}"

    def fetch(self, *, folders: tuple[str, ...] = _IMMUTABLE, only: str = "") -> Path:
        """Update the copy and return its folder.

        Args:
            folders: Of the files that never change, fetch only those in these folders.
            only: Of those, fetch only files with this in their name.

        Raises:
            RunError: The store cannot be read, or the disk is full.
        """
        there = self._listed()
        self._drop_if_replaced(MANIFEST in there)
        for name, size in there.items():
            folder = name.partition("/")[0]
            target = self.copy / name
            chosen = folder in folders and only in name if "/" in name else name != "lock"
            growing = name in (*_GROWING, MANIFEST)
            has = target.stat().st_size if target.is_file() else -1
            if chosen and (has < size if growing else has != size or name == _REPLACED):
                make_folder(target.parent)
                write_whole(target, self._read(name))
        return self.copy

    def upload(self, path: Path) -> None:
        """Upload one file of the copy, whole.

        Raises:
            RunError: The upload failed.
        """
        name = path.relative_to(self.copy).as_posix()
        place = f"{self._root}/{name}"
        try:
            if not self._flat:
                self._files.create_dir(place.rpartition("/")[0], recursive=True)
            with self._files.open_output_stream(place) as sink:
                sink.write(path.read_bytes())
        except (OSError, pa.ArrowException) as error:
            raise self._trouble("cannot be written", name, error) from error

    def upload_missing(self) -> None:
        """Upload files of the copy that a crash kept from being uploaded.

        Raises:
            RunError: An upload failed.
        """
        there = self._listed()
        for folder in _IMMUTABLE:
            for path in sorted((self.copy / folder).glob("*.parquet")):
                if f"{folder}/{path.name}" not in there:
                    self.upload(path)
        for name in (*_GROWING, _REPLACED):
            path = self.copy / name
            if path.is_file() and path.stat().st_size > there.get(name, 0):
                self.upload(path)

    def staged(self, name: str) -> tuple[str, Any]:
        """Return path and file system of a file for workers."""
        return f"{self._root}/staged/{name}", self._files

    def remove_staged(self) -> None:
        """Remove the files for workers.

        Raises:
            RunError: The store does not allow it.
        """
        try:
            for name in self._listed():
                if name.startswith("staged/"):
                    self._files.delete_file(f"{self._root}/{name}")
        except OSError as error:
            raise self._trouble("cannot be written", "staged", error) from error

    def _drop_if_replaced(self, has_manifest: bool) -> None:
        """Delete the copy if its run was deleted or replaced in the store."""
        mine = self.copy / MANIFEST
        if not mine.is_file():
            return
        if not has_manifest or orjson.loads(self._read(MANIFEST)) != orjson.loads(
            mine.read_bytes()
        ):
            for path in self.copy.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != "lock":
                    path.unlink()

    def _listed(self) -> dict[str, int]:
        chosen = pafs.FileSelector(self._root, recursive=True, allow_not_found=True)
        try:
            infos = self._files.get_file_info(chosen)
        except (OSError, pa.ArrowException) as error:
            raise self._trouble("cannot be read", "", error) from error
        start = len(self._root.rstrip("/")) + 1
        return {
            info.path[start:]: info.size
            for info in sorted(infos, key=lambda info: str(info.path))
            if info.type == pafs.FileType.File
            and not info.path.endswith(PARTIAL)
            and ".." not in info.path[start:].split("/")  # would lead out of the copy
        }

    def _read(self, name: str) -> bytes:
        try:
            with self._files.open_input_stream(f"{self._root}/{name}") as source:
                data: bytes = source.read()
        except (OSError, pa.ArrowException) as error:
            raise self._trouble("cannot be read", name, error) from error
        return data

    def _trouble(self, what: str, name: str, error: Exception) -> RunError:
        reason = str(error).strip().partition("\n")[0]
        place = f"{self.url}/{name}" if name else self.url
        return RunError(
            f"{place}: {what}: {reason:.300}",
            hint="check that the bucket exists and that the credentials in the environment allow "
            "access; then repeat the command: everything written before is kept",
        )


def _connect(url: str) -> tuple[Any, str]:
    scheme, _, rest = url.partition("://")
    if scheme == "s3":
        return pafs.S3FileSystem(**_s3_options()), rest
    try:
        files, path = pafs.FileSystem.from_uri(f"{scheme}://{quote(rest)}")
    except (pa.ArrowException, ValueError, OSError):
        return _through_fsspec(url, scheme)
    return files, path


def _s3_options() -> dict[str, Any]:
    """Return options that some versions of pyarrow do not read from the environment."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return {}
    scheme, _, host = endpoint.rpartition("://")
    return {"endpoint_override": host, "scheme": scheme or "https"}


def _through_fsspec(url: str, scheme: str) -> tuple[Any, str]:
    try:
        fsspec = importlib.import_module("fsspec.core")
        files, path = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{url}: {scheme}:// needs a library that is not installed ({error})",
            hint=f"install the fsspec implementation of {scheme}, or use s3://, gs:// or a path",
        ) from None
    return pafs.PyFileSystem(pafs.FSSpecHandler(files)), path
