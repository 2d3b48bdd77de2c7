"""Reading prompts, one record at a time: every record becomes a prompt or a failure.

Memory does not grow with the input, but for 12 bytes a prompt that notice ids given twice, and what
`rlaif.inputs.duplicates` keeps where duplicates are to be left out.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rlaif.config.prompts import PromptSource
from rlaif.errors import RecordError
from rlaif.inputs.columns import make_prompt
from rlaif.inputs.contamination import Contamination
from rlaif.inputs.duplicates import Duplicates
from rlaif.inputs.formats import count_rows, read_records
from rlaif.inputs.guess import CANDIDATES, LOOKED_AT, guess_column
from rlaif.inputs.hugging_face import read_hub
from rlaif.inputs.places import Placed, Places, files_of, read_path
from rlaif.inputs.records import Numbered
from rlaif.records import REMOVED, Failure, Prompt, content_id
from rlaif.runs.ids import IdSet


def read_prompts(source: PromptSource) -> Iterator[Prompt | Failure]:
    """Yield every prompt of the source, and a `Failure` for every record that is none.

    An id given twice is a failure the second time: rows are known by their ids. Prompts left out
    as duplicates or as contaminated are failures of the stage `REMOVED`. What is left out depends
    on the order of input alone, and not on the partition: all parts together are the whole.

    Raises:
        RecordError: No such file, unknown kind of file, empty, not UTF-8, or the column is in
            none of the records read.
        EngineMissing: A library that the source or a filter needs is not installed.
        EngineUnavailable: A remote file could not be read to its end; reading again may go on.
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
            f"{source.name}: none of its {broken} records is a prompt; "
            f"{first.record_id}: {first.message}",
            hint=f"each record needs {column!r}: text, or a list of chat messages; prompts.column "
            "names another column",
        )
    if usable == 0:
        raise RecordError(f"{source.name}: the file is empty")


def check_source(source: PromptSource) -> None:
    """Find out, before anything starts, whether the source can be read and holds a prompt.

    Raises:
        RecordError, EngineMissing: As `read_prompts`; whole local files are checked for UTF-8,
            their records only until the first prompt.
    """
    for item in read_prompts(source):
        if isinstance(item, Prompt):
            return


def count_records(source: PromptSource) -> int | None:
    """Count what `read_prompts` will yield, cheaply; None where that is not possible.

    For showing progress only. Counting CSV, JSON, packed and remote files means reading them.
    """
    if source.items is not None and source.partition is None:
        return min(len(source.items), source.limit or len(source.items))
    if source.path is None or source.partition is not None:
        return None
    total = 0
    for file in files_of(source.path, kind=source.format, split=source.split):
        count = count_rows(file)
        if count is None:
            return None
        total += count
    return total if source.limit is None else min(total, source.limit)


def belongs(name: str, partition: str | None) -> bool:
    """Whether a prompt id, or the record id of a failure, is of a part; None is the whole."""
    if partition is None:
        return True
    part, of = map(int, partition.split("/"))
    return int(content_id("partition", name), 16) % of == part - 1


class _Sieve:
    """Turns prompts that must not go on into failures."""

    def __init__(self, source: PromptSource, places: Places) -> None:
        self._places = places
        self._seen = IdSet()
        # Read and loaded here, so that what is missing is said before the first prompt.
        self._tests = Contamination(source.decontaminate) if source.decontaminate else None
        self._duplicates = Duplicates(source.dedup) if source.dedup else None

    def sift(self, item: Prompt | Failure, place: int) -> Prompt | Failure:
        """Return the item, or why the prompt does not go on."""
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
        """Kind and message of what makes a prompt be left out."""
        overlap = self._tests.find(prompt) if self._tests else None
        if overlap is not None:
            message = f"{prompt.source} holds {overlap.share:.0%} of the test item {overlap.item}"
            return "contaminated", message
        found = self._duplicates.find_or_add(prompt, place) if self._duplicates else None
        if found is None:
            return None
        earlier = self._places.text(found.place)
        if found.similarity is None:
            return "duplicate", f"{prompt.source} repeats {earlier}"
        return "near-duplicate", f"{prompt.source} is like {earlier}: {found.similarity:.2f}"


def _opened(source: PromptSource, places: Places) -> tuple[str, Iterator[Placed]]:
    """Return the column of the prompts and the records."""
    if source.column is not None:
        return source.column, _records(source, source.column, places)
    if source.path is None:
        records = _records(source, "prompt", places)
        # Of a stream one, so that what was read before it breaks off is not lost.
        first = list(islice(records, LOOKED_AT if source.hub is None else 1))
        column = guess_column((record for _, record in first), source.name)
        return column, chain(first, records)
    with closing(_first_records(source.path, source)) as sample:
        column = guess_column(sample, source.name)
    return column, _records(source, column, places)


def _first_records(path: str | Path, source: PromptSource) -> Generator[Any]:
    files = files_of(path, kind=source.format, split=source.split)
    records = (one for file in files for one in read_records(file, CANDIDATES))
    yield from (record for _, record in islice(records, LOOKED_AT))


def _listed(items: Sequence[Any], column: str) -> Iterator[Numbered]:
    """Records as they are; texts and conversations as records that hold them."""
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
    columns = (column, *source.other_columns)
    return read_path(source.path, places, kind=source.format, split=source.split, columns=columns)
