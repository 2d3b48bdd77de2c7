"""The gate: a judge labels only if an audit has shown that it can.

By default the lower end of the 95 % interval must reach the minimum, not the estimate: with 60
gold pairs a coin reaches an estimate of 0.6 once in thirteen times, a lower end of 0.6 practically
never.
A good judge that is refused because too few pairs were audited passes after a larger audit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from rlaif.config import nearest
from rlaif.errors import ConfigError, GateRefused

AUDIT_FORMAT = 1
"""Of audit.json; raise it when what is read here changes."""

By = Literal["bound", "estimate"]


@dataclass(frozen=True, slots=True)
class _Shown:
    """What an audit says of one judge on one gold set."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.value is None:
            return "no accuracy could be measured"
        ends = "no interval"
        if self.low is not None and self.high is not None:
            ends = f"95 % interval {self.low:.3f} to {self.high:.3f}"
        return f"accuracy {self.value:.3f} ({ends}, {self.n} pairs)"


def check_gate(
    *,
    audit: Path,
    min_accuracy: Mapping[str, float],
    judges: Mapping[str, str],
    by: By = "bound",
    override: Sequence[str] = (),
) -> tuple[str, ...]:
    """Let judges pass that an audit has shown to be good enough.

    Args:
        audit: The audit.json.
        min_accuracy: Gold set to the least accuracy on it.
        judges: Name, as in the run, to fingerprint; the audit knows judges by fingerprint, so a
            judge with another model, method, setting or template counts as not audited.
        by: What must reach the minimum: the lower end of the interval, or the estimate.
        override: Names of judges that may label although they do not pass.

    Returns:
        Notices for the manifest: one for each judge that labels without having passed.

    Raises:
        ConfigError: The audit is missing, damaged or lacks a gold set; an override names no judge.
        GateRefused: A judge does not pass; names each with its figures.
    """
    known = _read(audit)
    for name in override:
        if name not in judges:
            raise ConfigError(
                f"gate: override: no judge is named {name!r}{nearest(name, sorted(judges))}"
            )
    for name in min_accuracy:
        if name not in known["gold"]:
            raise ConfigError(
                f"gate: {audit} has no gold set {name!r}{nearest(name, sorted(known['gold']))}",
                hint="audit the judge on it: rlaif audit judge.yaml --gold FILE",
            )
    problems = {
        name: reasons
        for name, fingerprint in judges.items()
        if (reasons := _problems(known, fingerprint, min_accuracy, by))
    }
    refused = [f"  {n}: {'; '.join(some)}" for n, some in problems.items() if n not in override]
    if refused:
        raise GateRefused(
            "\n".join([f"the gate refuses these judges (audit {audit}):", *refused]),
            hint="choose a better judge; audit more pairs where only the interval is too wide; or "
            "name it under gate: override:, which the data card will say",
        )
    return tuple(
        f"the judge {name!r} labels although the gate refuses it (overridden): {'; '.join(reasons)}"
        for name, reasons in problems.items()
    )


def _problems(
    known: Mapping[str, Any], fingerprint: str, min_accuracy: Mapping[str, float], by: By
) -> list[str]:
    sets = next(
        (
            result["sets"]
            for result in known["judges"].values()
            if result["fingerprint"] == fingerprint
        ),
        None,
    )
    if sets is None:
        return ["was not audited as it is configured here"]
    problems = []
    for name, least in min_accuracy.items():
        shown = _shown(sets.get(name))
        reached = shown.low if by == "bound" else shown.value
        if reached is None or reached < least:
            what = "lower end" if by == "bound" else "estimate"
            problems.append(f"{name}: {shown}, its {what} must reach {least:g}")
    return problems


def _shown(result: Mapping[str, Any] | None) -> _Shown:
    figure = None if result is None else result["accuracy"]["figure"]
    if figure is None:
        return _Shown(None, None, None, 0)
    return _Shown(figure["value"], figure["low"], figure["high"], figure["n"])


def _read(path: Path) -> Mapping[str, Any]:
    try:
        data = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"gate: {path}: no such file",
            hint="audit the judges first: rlaif audit judge.yaml --gold FILE --out DIR",
        ) from None
    except (OSError, orjson.JSONDecodeError) as problem:
        raise ConfigError(f"gate: {path}: cannot be read: {problem}") from None
    if not isinstance(data, dict) or not {"format", "judges", "gold"} <= data.keys():
        raise ConfigError(f"gate: {path}: not an audit.json")
    if data["format"] > AUDIT_FORMAT:
        raise ConfigError(f"gate: {path}: written by a newer version")
    return data
