"""Records as a `datasets.Dataset` that lies on the disk instead of in memory."""

import atexit
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rlaif.errors import InputError
from rlaif.runs.files import cannot_write

if TYPE_CHECKING:
    import datasets

_BATCH_RECORDS = 1000


def make_dataset(records: Iterator[dict[str, Any]], schema: pa.Schema) -> "datasets.Dataset":
    """Write records to a temporary Arrow file and return the data set that maps it.

    The file stays until the process ends, because worker processes open it again by its name.

    Raises:
        InputError: ``datasets`` is not installed.
        RunError: The temporary folder is full or cannot be written.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "data sets need the datasets library",
            hint="pip install 'constitutional-rlaif[train]'",
        ) from error
    folder = Path(tempfile.mkdtemp(prefix="rlaif-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "records.arrow"
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            while batch := list(itertools.islice(records, _BATCH_RECORDS)):
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
    except OSError as error:
        raise cannot_write(path, error) from error
    return datasets.Dataset.from_file(str(path))
