"""Reading prompts, one record at a time: every record becomes a prompt or a failure.

Memory does not grow with the input, except for 12 bytes a prompt to detect duplicate ids, and the
tables of `rlaif.inputs.filters.Duplicates` if duplicates are left out.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rlaif.config.prompts import PromptSource
from rlaif.errors import RecordError
from rlaif.inputs.columns import (
    CANDIDATES,
    LOOKED_AT,
    columns_beside,
    guess_column,
    make_prompt,
)
from rlaif.inputs.files import Numbered, find_files
from rlaif.inputs.filters import Contamination, Duplicates
from rlaif.inputs.formats import count_rows, read_records
from rlaif.inputs.places import Placed, Places, read_hub, read_path
from rlaif.records import REMOVED, Failure, Prompt, content_id
from rlaif.runs.ids import IdSet


def read_prompts(source: PromptSource) -> Iterator[Prompt | Failure]:
    """Yield every prompt of the source, and a `Failure` for every invalid record.

    The second prompt with the same id is a failure, because ids identify rows. Prompts left out as
    duplicates or as contaminated are failures of the stage `REMOVED`. Which are left out depends
    only on the order of input, not on the partition: all parts together are the whole.

    Raises:
        RecordError: The file is missing, empty, not UTF-8 or of unknown format, or no record read
            has the column.
        EngineMissing: A library that the source or a filter needs is not installed.
        EngineUnavailable: A remote file could not be read to its end; a retry may succeed.
    """
    places = Places()
    sieve = _Sieve(source, places)
    usable = broken = 0
    first: Failure | None = None
    column, records = _opened(source, places)
    for place, record in records:
        if source.limit is not None and usable + broken >= source.limit:
            break
        item = sieve.sift(make_prompt(record, places.text(place), source, column), place)
        if isinstance(item, Failure):
            broken += 1
            first = first or item
        else:
            usable += 1
        name = item.id if isinstance(item, Prompt) else item.record_id
        if belongs(name, source.partition):
            yield item
    if usable == 0 and first is not None:
        raise RecordError(
            f"{source.name}: none of its {broken} records is a valid prompt; "
            f"{first.record_id}: {first.message}",
            hint=f"each record needs {column!r}: text, or a list of chat messages; set "
            "prompts.column for another column"
            if first.kind in ("missing-column", "bad-prompt")
            else "",
        )
    if usable == 0:
        raise RecordError(f"{source.name}: the file is empty")


def check_source(source: PromptSource) -> None:
    """Check, before anything starts, that the source can be read and contains a prompt.

    Raises:
        RecordError, EngineMissing: As `read_prompts`; local files are checked for UTF-8 to the
            end, their records only up to the first prompt.
    """
    for item in read_prompts(source):
        if isinstance(item, Prompt):
            return


def count_records(source: PromptSource) -> int | None:
    """Count the items of `read_prompts` for progress; None where counting is expensive.

    Counting CSV, JSON, packed and remote files would mean reading them.
    """
    if source.items is not None and source.partition is None:
        return min(len(source.items), source.limit or len(source.items))
    if source.path is None or source.partition is not None:
        return None
    total = 0
    for file in find_files(source.path, source.format, source.split):
        count = count_rows(file)
        if count is None:
            return None
        total += count
    return total if source.limit is None else min(total, source.limit)


def belongs(name: str, partition: str | None) -> bool:
    """Whether a prompt id, or a failure's record id, belongs to a part; None is the whole."""
    if partition is None:
        return True
    part, of = map(int, partition.split("/"))
    return int(content_id("partition", name), 16) % of == part - 1


class _Sieve:
    """Turns prompts that are left out, or have a duplicate id, into failures."""

    def __init__(self, source: PromptSource, places: Places) -> None:
        self._places = places
        self._seen = IdSet()
        # Loaded here, so that a missing file or library is reported before the first prompt.
        self._tests = Contamination(source.decontaminate) if source.decontaminate else None
        self._duplicates = Duplicates(source.dedup) if source.dedup else None

    def sift(self, item: Prompt | Failure, place: int) -> Prompt | Failure:
        """Return the item, or a failure with the reason why it is left out."""
        if isinstance(item, Failure):
            return item
        fresh = self._seen.add(bytes.fromhex(content_id("prompt-id", item.id)))
        reason = self._reason(item, place)
        if reason is not None:
            # An id that is taken stands for the earlier prompt already.
            record_id = item.id if fresh else item.source
            return Failure(REMOVED, record_id, *reason)
        if not fresh:
            message = f"the id {item.id!r} was given before"
            return Failure("read", item.source, "duplicate-id", message)
        return item

    def _reason(self, prompt: Prompt, place: int) -> tuple[str, str] | None:
        """Return kind and message of the reason to leave out a prompt; None to keep it."""
        overlap = self._tests.find(prompt) if self._tests else None
        if overlap is not None:
            message = f"{prompt.source} holds {overlap.share:.0%} of the test item {overlap.item}"
            return "contaminated", message
        repeated = self._duplicates.find_or_add(prompt, place) if self._duplicates else None
        if repeated is None:
            return None
        earlier = self._places.text(repeated.place)
        if repeated.similarity is None:
            return "duplicate", f"{prompt.source} repeats {earlier}"
        return "near-duplicate", f"{prompt.source} is like {earlier}: {repeated.similarity:.2f}"


def _opened(source: PromptSource, places: Places) -> tuple[str, Iterator[Placed]]:
    """Return the column of prompts and the records."""
    if source.column is not None:
        return source.column, _records(source, source.column, places)
    if source.path is None:
        records = _records(source, "prompt", places)
        # Only one of a stream: if it breaks off, the records before are not lost.
        first = list(islice(records, LOOKED_AT if source.hub is None else 1))
        column = guess_column((record for _, record in first), source.name)
        return column, chain(first, records)
    with closing(_first_records(source.path, source)) as sample:
        column = guess_column(sample, source.name)
    return column, _records(source, column, places)


def _first_records(path: str | Path, source: PromptSource) -> Generator[Any]:
    files = find_files(path, source.format, source.split)
    records = chain.from_iterable(read_records(file, CANDIDATES) for file in files)
    yield from (record for _, record in islice(records, LOOKED_AT))


def _listed(items: Sequence[Any], column: str) -> Iterator[Numbered]:
    """Yield records unchanged; texts and conversations become records with one column."""
    for number, item in enumerate(items, start=1):
        yield number, {column: item} if isinstance(item, str | list | tuple) else item


def _records(source: PromptSource, column: str, places: Places) -> Iterator[Placed]:
    if source.items is not None:
        return places.number(_listed(source.items, column), source.name, lines=False)
    if source.hub is not None:
        records = read_hub(
            source.hub,
            config=source.config,
            split=source.split,
            revision=source.revision,
            streaming=source.streaming,
        )
        return places.number(records, f"{source.hub}/{source.split}", lines=False)
    if source.path is None:
        raise RecordError("prompts: give a path, a hub data set or a list")
    columns = (column, *source.other_columns, *columns_beside(source))
    return read_path(source.path, places, kind=source.format, split=source.split, columns=columns)
