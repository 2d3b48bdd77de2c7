"""From a path to a table: files and folders, saved data sets, and the split that is meant.

The files of a folder belong to splits by their names, as ``datasets`` reads them:
``train-00000-of-00002.parquet``, ``test.jsonl``, ``validation/part.jsonl``. One split is read, and
the others are noted, so that a test set is never trained on by accident.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, load_from_disk

from rlaif.errors import InputError, RecordError
from rlaif.inputs.files import Broken, InputFile, kind_of
from rlaif.inputs.formats import read_records

TRAIN = "train"
_SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")
_KINDS = ("parquet", "jsonl", "json")
"""A folder's files are of one kind: the first of these that it has."""

_INFO = re.compile(r"(dataset_info|dataset_infos|dataset_dict|state)\.json")


def split_of(name: str) -> str:
    """Return the split that a relative path shows, "" where it shows none.

    ``train_prefs-00000-of-00001.parquet`` is of the split ``train_prefs``; other names show one of
    train, validation and test as a word of their own.
    """
    path = Path(name)
    sharded = _SHARD.match(path.name)
    if sharded:
        return _SPLITS.get(sharded[1].lower(), sharded[1])
    for part in reversed(path.parts):
        for word in re.findall("[a-z]+", part.lower()):
            if word in _SPLITS:
                return _SPLITS[word]
    return ""


def choose_split(
    name: str, splits: Collection[str], wanted: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    """Return the first wanted split that there is, and a note on those that are not read.

    Args:
        name: The data set, for messages.
        splits: Those there are; "" holds files whose names show none, and stands for train where
            that is missing.
        wanted: In the order of preference.

    Raises:
        InputError: None of them is there.
    """
    known = {split or TRAIN for split in splits}
    chosen = next((split for split in wanted if split in known), None)
    if chosen is None:
        raise InputError(
            f"{name}: no split {wanted[0]}; its splits are {', '.join(sorted(known))}",
            hint="choose one with split",
        )
    key = chosen if chosen in splits else ""
    others = sorted(split or "files of no split" for split in splits if split != key)
    note = f"split {chosen} is read; left out: {', '.join(others)}"
    return key, (note,) if others else ()


def pick_split(
    name: str, dataset: Dataset | DatasetDict, wanted: Sequence[str]
) -> tuple[Dataset, tuple[str, ...]]:
    """Return the wanted split of what is in memory; see `choose_split`."""
    if isinstance(dataset, DatasetDict):
        chosen, notes = choose_split(name, dataset.keys(), wanted)
        return dataset[chosen], notes
    own = str(dataset.split or "").partition("[")[0]
    return dataset, _check_single(name, own, wanted)


def _check_single(name: str, own: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """Check what has one split at most; one that is not wanted is noted, since it was named."""
    if own in wanted or (not own and TRAIN in wanted):
        return ()
    if TRAIN not in wanted:
        raise InputError(f"{name}: has no split {wanted[0]}", hint="leave out split")
    return (f"{Path(name).name}: it says that it is the split {own}",)


def read_path(path: Path, wanted: Sequence[str]) -> tuple[Dataset, tuple[str, ...]]:
    """Read a file, a folder of files, or a data set saved by ``save_to_disk``.

    Returns:
        The rows, and notes on the splits and files that were not read.

    Raises:
        InputError: Nothing to read, or no such split.
        RecordError: A file that cannot be read.
    """
    if path.is_file():
        notes = _check_single(path.name, split_of(path.name), wanted)
        return _join(path, [_read_table(path)]), notes
    if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
        return pick_split(str(path), load_from_disk(str(path)), wanted)
    files = _data_files(path)
    if not files:
        raise InputError(
            f"{path}: no Parquet or JSONL file in this folder",
            hint="give a folder written by rlaif export",
        )
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(split_of(str(file.relative_to(path))), []).append(file)
    chosen, notes = choose_split(str(path), by_split, wanted)
    return _join(path, (_read_table(file) for file in by_split[chosen])), notes


def _data_files(folder: Path) -> list[Path]:
    """Return the files of the folder, of ``data/`` and of folders named for splits, of one kind."""
    kinds: dict[str | None, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith((".", "_")) for part in inside.parts)
        near = len(inside.parts) == 1 or inside.parts[0] == "data" or split_of(f"{inside.parent}/-")
        if path.is_file() and near and not hidden and not _INFO.fullmatch(path.name):
            kinds.setdefault(kind_of(path.name), []).append(path)
    return next((kinds[kind] for kind in _KINDS if kind in kinds), [])


def _read_table(path: Path) -> pa.Table:
    kind = kind_of(path.name)
    if kind not in _KINDS:
        raise InputError(f"{path}: unknown file format", hint="use .parquet, .jsonl or .json")
    try:
        if kind == "parquet":
            return pq.read_table(path)
        return _as_table(path, _records(path, kind))
    except (pa.ArrowException, OverflowError, OSError) as problem:
        raise _unreadable(path, str(problem)) from problem


def _records(path: Path, kind: str) -> list[Mapping[str, Any]]:
    """Return the records of a JSON list, or of lines of JSON, which also end in ``.json``."""
    file = InputFile(str(path), path.name, kind)
    if kind == "json":
        with file.open() as raw:
            start = next((line.strip() for line in raw if line.strip()), b"")
        if not start.removeprefix(b"\xef\xbb\xbf").startswith(b"["):
            file = InputFile(str(path), path.name, "jsonl")
    records = []
    for place, record in read_records(file):
        what = "line" if file.kind == "jsonl" else "record"
        if isinstance(record, Broken):
            raise _unreadable(path, f"{what} {place}: {record.message}")
        if not isinstance(record, Mapping):
            raise _unreadable(path, f"{what} {place} is not an object: {record!r:.40}")
        records.append(record)
    return records


def _as_table(path: Path, records: Sequence[Mapping[str, Any]]) -> pa.Table:
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for record in records for name in record):
        try:
            columns[name] = pa.array([_plain(name, record.get(name)) for record in records])
        except (pa.ArrowException, OverflowError) as problem:
            first = str(problem).splitlines()[0]
            raise _unreadable(path, f"the values of {name} differ in type: {first}") from problem
    return pa.table(columns)


def _plain(name: str, value: Any) -> Any:
    """Return a value with tools and arguments of calls as JSON text: a column has one type."""
    if name in ("tools", "arguments") and isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return {key: _plain(key, inner) for key, inner in value.items()}
    return [_plain("", item) for item in value] if isinstance(value, list) else value


def _join(path: Path, tables: Iterable[pa.Table]) -> Dataset:
    try:
        return Dataset(pa.concat_tables(list(tables), promote_options="permissive"))
    except pa.ArrowException as problem:
        first = str(problem).splitlines()[0]
        raise RecordError(f"{path}: its files differ in their columns: {first}") from problem


def _unreadable(path: Path, why: str) -> RecordError:
    first = (why or "damaged").splitlines()[0]
    return RecordError(f"{path}: cannot be read as a data set: {first}")
