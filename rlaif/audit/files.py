"""The files of an audit: audit.json, table.md, reliability.png and one calibration per judge."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from rlaif.audit.render import draw_reliability, render_audit
from rlaif.audit.result import Audit
from rlaif.errors import InputError
from rlaif.judging.calibration import Calibration
from rlaif.runs.files import write_whole

AUDIT = "audit.json"
TABLE = "table.md"
PICTURE = "reliability.png"


def calibration_file(judge: str) -> str:
    """Return the name of the file with a judge's calibration."""
    return f"calibration-{judge}.json"


def check_extra(judges: int) -> None:
    """Find out, before anything is asked, whether results can be written.

    Raises:
        InputError: matplotlib, or for several judges krippendorff, is not installed.
    """
    needed = ["matplotlib", *(["krippendorff"] if judges > 1 else [])]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise InputError(
            f"an audit needs {' and '.join(missing)}, which is not installed",
            hint="pip install 'constitutional-rlaif[audit]'",
        )


def write_audit(out: Path, audit: Audit, calibrations: Mapping[str, Calibration]) -> None:
    """Write everything into an existing folder; audit.json last, so its being there says: whole.

    Raises:
        RunError: The folder cannot be written.
    """
    for name, calibration in calibrations.items():
        write_whole(out / calibration_file(name), _json(calibration.to_json()))
    write_whole(out / PICTURE, draw_reliability(audit))
    write_whole(out / TABLE, render_audit(audit).encode())
    write_whole(out / AUDIT, _json(audit.to_json()))


def _json(data: dict[str, Any]) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_INDENT_2) + b"\n"
