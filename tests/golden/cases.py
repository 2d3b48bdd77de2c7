"""The settings that are recorded: methods × orders × choices of principles, and everything else."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rlaif
from tests.golden.facts import lines_facts, result_facts, run_facts, table_facts
from tests.golden.inside import STEADY, command, golden_engine, ledger_facts

HERE = Path(__file__).parent
GOLDEN = {"engine": "scripted", "model": "golden"}
STUDENT = {"engine": "scripted", "model": "golden-student"}

METHODS: Mapping[str, dict[str, Any]] = {
    "contrast": {"method": "contrast"},
    "contrast-per-token": {"method": "contrast", "contrast": {"per_token": True, "scale": 1.5}},
    "pairwise": {"method": "pairwise"},
    "pairwise-exemplars": {"pairwise": {"exemplars": 2}},
    "pairwise-cot": {"pairwise": {"chain_of_thought": True}},
    "pairwise-cot-warm": {
        "pairwise": {
            "chain_of_thought": True,
            "temperature": 0.7,
            "clamp": 0,
            "max_tokens": 64,
            "exemplars": 1,
        }
    },
    "pairwise-words": {"pairwise": {"words": True}},
    "pairwise-cot-words": {"pairwise": {"words": True, "chain_of_thought": True}},
    "pointwise": {"method": "pointwise"},
    "reward": {"method": "reward", "reward": {"scale": 0.5}},
    "rubric": {"method": "rubric"},
    "rubric-weights": {
        "method": "rubric",
        "rubric": {"both_polarities": False, "weights": {"plain": -0.5, "kind": 2.0}},
    },
    "salmon": {"method": "salmon"},
    "salmon-variances": {"method": "salmon", "salmon": {"variances": {"plain": 0.5}}},
}
"""Every judge method with its variants; rules and construction, which need no judge, are below."""

CHOICES: Mapping[str, Any] = {"one": "one", "all": "all", "k=2": {"k": 2}}


def _orders(judge: Mapping[str, Any]) -> tuple[str, ...]:
    return ("both", "one") if judge.get("method", "pairwise") == "pairwise" else ("both",)


LABELS: Mapping[str, dict[str, Any]] = {
    f"{method}/{orders}/{choice}": {
        "judges": [{"name": "main", **GOLDEN, **judge}],
        "judging": {"orders": orders, "principles": {"choose": CHOICES[choice]}},
    }
    for method, judge in METHODS.items()
    for orders in _orders(judge)
    for choice in CHOICES
}
"""Method / orders / choice of principles to what the run file says of it."""

_JUDGE = {"name": "main", **GOLDEN}
_PANEL = [_JUDGE, {"name": "other", "engine": "scripted", "model": "judge-random", "weight": 0.5}]
_EVERY = [{"name": name, **GOLDEN, **judge} for name, judge in METHODS.items()]

_RUNS: Mapping[str, dict[str, Any]] = {
    "plain": {},
    "echo": {
        "student": {"engine": "scripted", "model": "echo", "sampling": {"n": 4, "max_tokens": 40}},
        "judges": [{"name": "main", "engine": "scripted", "model": "judge-longer"}],
    },
    "refusals": {
        "student": {
            "engine": "scripted",
            "model": "echo",
            "options": {"refusal_rate": 0.3},
            "system": "Answer in one sentence.",
        },
        "judges": [
            {
                "name": "main",
                "engine": "scripted",
                "model": "judge-random",
                "options": {"position_bias": 1.5, "noise": 0.5},
            }
        ],
    },
    "rules": {"judges": [], "constitution": "rules.yaml"},
    "panel": {"judges": _PANEL, "judging": {"principles": {"choose": "all"}}},
    "panel-drop": {"judges": _PANEL, "judging": {"max_disagreement": 0.2}},
    "panel-soften": {
        "judges": _PANEL,
        "judging": {"max_disagreement": 0.2, "on_disagreement": "soften"},
    },
    "same-as-student": {"judges": [{"name": "main", "model": "same-as-student"}]},
    "min-mass": {"judging": {"min_mass": 0.2}},
    "canary": {"judging": {"canary": {"share": 0.7}}},
    "random-comparisons": {"judging": {"comparisons": "random"}},
    "length-ratio": {"judging": {"max_length_ratio": 1.5}},
    "bradley-terry": {"judging": {"fit": "bradley-terry"}, "pairing": {"length_tiers": 0.3}},
    "pair-all": {"pairing": {"strategy": "all-pairs", "min_margin": 0.3}},
    "pair-random": {"pairing": {"strategy": "random"}},
    "pair-best-vs-random": {"pairing": {"strategy": "best-vs-random"}},
    "other-seed": {"seed": 12},
    "revise": {"revise": {"rounds": 2, "temperature": 0.5, "max_tokens": 99}},
    "revise-if-found": {
        "revise": {
            "rounds": 2,
            "only_if_found": True,
            "critic": {"engine": "scripted", "model": "echo"},
        }
    },
    "contrast": {
        "student": {**STUDENT, "sampling": {"n": 4, "strategy": "contrast"}},
        "judging": {"comparisons": "contrast"},
    },
    "contrast-all-pairs": {"student": {**STUDENT, "sampling": {"n": 2, "strategy": "contrast"}}},
    "construction": {
        "student": {**STUDENT, "sampling": {"n": 4, "strategy": "contrast"}},
        "judges": [],
        "judging": {"comparisons": "contrast", "label": "construction"},
        "pairing": {"strategy": "all-pairs"},
    },
    "filters": {
        "prompts": {
            "path": "untidy.jsonl",
            "id_column": "id",
            "tags": ["added"],
            "dedup": {"method": "near", "threshold": 0.5},
            "decontaminate": {"against": ["evaluated.jsonl"], "ngram": 5},
        }
    },
    "hashed-ids": {"prompts": {"path": "untidy.jsonl", "dedup": {"method": "exact"}, "limit": 4}},
}


def run_file(folder: Path, changes: Mapping[str, Any], *, name: str = "run") -> Path:
    """Put the inputs and a run file, as JSON, which is YAML, into a folder."""
    shutil.copytree(HERE / "inputs", folder, dirs_exist_ok=True)
    settings = {
        "name": "golden",
        "seed": 11,
        "prompts": {"path": "prompts.jsonl", "id_column": "id", "tags_column": "tags"},
        "constitution": "constitution.yaml",
        "student": {**STUDENT, "sampling": {"n": 3, "temperature": 0.9, "top_p": 0.95}},
        "judges": [_JUDGE],
        "out": name,
        **changes,
    }
    return _write(folder / f"{name}.yaml", settings)


def every_method(folder: Path) -> Path:
    """A run file with a judge of every method and every variant, and one round of revisions."""
    judges = [{**judge, "model": STEADY} for judge in _EVERY]
    for judge in judges:  # as it was when the old run was made
        if judge.get("method") == "rubric":
            judge["rubric"] = {"combine": "mean", **judge.get("rubric", {})}
    changes = {
        "prompts": {"path": "prompts.jsonl", "id_column": "id", "tags_column": "tags", "limit": 2},
        "student": {**STUDENT, "model": STEADY, "sampling": {"n": 2}},
        "revise": {"rounds": 1},
        "judges": judges,
        "judging": {"min_mass": 0.0},
    }
    return run_file(folder, changes, name="every")


def _write(path: Path, settings: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(settings), "utf-8")
    return path


def generate(folder: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Run one run file and say what it wrote."""
    with golden_engine():
        rlaif.generate(run_file(folder, changes))
    return run_facts(folder / "run")


def _relabel(folder: Path) -> dict[str, Any]:
    with golden_engine():
        rlaif.generate(run_file(folder, {"judges": _PANEL}))
        told = command(
            *("relabel", folder / "run", "--constitution", folder / "reworded.yaml"),
            *("--out", folder / "new", "--json"),
        )
    del told["examples"]  # the first few that are met, in the order in which rows finished
    return {"told": told, **run_facts(folder / "new")}


def _reparse(folder: Path) -> dict[str, Any]:
    with golden_engine():
        rlaif.generate(run_file(folder, {"judges": _EVERY}))
        told = command("reparse", folder / "run", "--out", folder / "new", "--json")
    return {"told": told, **run_facts(folder / "new")}


def _audit(folder: Path, orders: str, **more: Any) -> dict[str, Any]:
    shutil.copytree(HERE / "inputs", folder, dirs_exist_ok=True)
    judges = [one for one in _EVERY if orders in _orders(one)]
    settings = {"judges": judges, "orders": orders, "repeat_pairs": 4, "out": "audit", **more}
    file = _write(folder / "audit.yaml", settings)
    with golden_engine():
        found = rlaif.audit_judge(file, [folder / "gold.jsonl"])
    result = json.loads((folder / "audit" / "audit.json").read_text("utf-8"))
    assert result == json.loads(json.dumps(found.to_json()))
    for gold in result["gold"].values():  # file:line, and the file lies elsewhere every time
        gold["broken_lines"] = [Path(place).name for place in gold["broken_lines"]]
    for judge in result["judges"].values():
        if isinstance(judge["calibration"], str):
            judge["calibration"] = None  # a sentence that says why there is none
    return {"ledger": ledger_facts(folder / "audit"), **result_facts(result)}


def _calibrated(folder: Path) -> dict[str, Any]:
    """A judge labels with a calibration, behind a gate; both rest on an audit of it."""
    audit = {"judges": [_JUDGE], "constitution": "constitution.yaml", "repeats": 1}
    shutil.copytree(HERE / "inputs", folder, dirs_exist_ok=True)
    file = _write(folder / "audit.yaml", {**audit, "out": "audit"})
    with golden_engine():
        rlaif.audit_judge(file, [folder / "gold.jsonl"])
    result = json.loads((folder / "audit" / "audit.json").read_text("utf-8"))
    # What an audit fits to gold differs in its last digit between machines, and enters the plan.
    calibration = {
        "t": 1.75,
        "judge": "main",
        "fingerprint": result["judges"]["main"]["fingerprint"],
        "method": "pairwise",
        "question": "golden",
        "fitted_on": 6,
        "reported_on": 6,
        "ece_before": {},
        "ece_after": {},
        "nll_before": 0.75,
        "nll_after": 0.5,
    }
    _write(folder / "calibration.json", calibration)
    gate = {"audit": "audit/audit.json", "min_accuracy": {"gold": 0.0}, "by": "estimate"}
    judges = [{**_JUDGE, "calibration": "calibration.json"}]
    return generate(folder, {"judges": judges, "gate": gate})


def _evaluate(folder: Path, **changes: Any) -> dict[str, Any]:
    shutil.copytree(HERE / "inputs", folder, dirs_exist_ok=True)
    settings = {
        "name": "golden",
        "seed": 5,
        "prompts": {"path": "prompts.jsonl", "id_column": "id", "tags_column": "tags"},
        "constitution": "constitution.yaml",
        "models": [
            {"name": "base", "engine": "scripted", "model": "echo"},
            {"name": "new", **STUDENT},
        ],
        "baseline": "base",
        "likelihood_under": "baseline",
        "sampling": {"n": 3, "max_tokens": 48},
        "out": "evaluation",
        **changes,
    }
    out = folder / "evaluation"
    with golden_engine():
        rlaif.evaluate(_write(folder / "evaluate.yaml", settings))
    facts = {
        "ledger": ledger_facts(out),
        "responses": lines_facts(out / "responses.jsonl"),
        **result_facts(json.loads((out / "scorecard.json").read_text("utf-8"))),
    }
    if settings.get("judges"):
        facts["judgments"] = lines_facts(out / "judgments.jsonl")
    return facts


def _export(folder: Path) -> dict[str, Any]:
    with golden_engine():
        rlaif.generate(run_file(folder, {"revise": {"rounds": 1}}))
    kinds = ("pairs", "prompts", "responses", "judgments", "demonstrations", "revisions")
    wanted = {kind: ("trl", kind) for kind in kinds} | {"openrlhf pairs": ("openrlhf", "pairs")}
    facts = {}
    for name, (to, what) in wanted.items():
        out = folder / "exported" / name
        out.parent.mkdir(exist_ok=True)
        rlaif.export(folder / "run", out, what=what, to=to)
        facts[name] = table_facts(out)
    return facts


def _run(changes: Mapping[str, Any]) -> Callable[[Path], dict[str, Any]]:
    return lambda folder: generate(folder, changes)


DATA: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    **{f"generate/{name}": _run(changes) for name, changes in _RUNS.items()},
    "generate/calibrated": _calibrated,
    "relabel": _relabel,
    "reparse": _reparse,
    "audit/both": lambda folder: _audit(folder, "both", constitution="constitution.yaml"),
    "audit/one": lambda folder: _audit(
        folder, "one", principle="Use plain words.", min_mass=0.2, repeats=1
    ),
    "evaluate/judges": lambda folder: _evaluate(
        folder, judges=_PANEL, judging={"principles": {"choose": {"k": 2}}}
    ),
    "evaluate/rules": lambda folder: _evaluate(folder, constitution="rules.yaml"),
    "export": _export,
}
"""Verb / variant to what is done in a folder of its own, and what it wrote."""
