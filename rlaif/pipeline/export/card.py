"""The data card: what a reader of an exported data set must know, from the run itself."""

from collections.abc import Mapping, Sequence

from rlaif.runs import Manifest, Run, RunStatus, Total

CARD_TAGS = "tags: [rlaif, constitutional-ai]"
"""A line of every card; it marks the exports of versions that wrote no marker."""

_MEANINGS: Mapping[str, str] = {
    "chosen_prob": "the judges' probability in [0.5, 1] that the chosen response is better; the "
    "loss should use it (soft labels)",
    "margin": "2·|p − ½| in [0, 1], p the probability of the label",
    "agreement": "share in [0, 1] of the opinions (judge × principle) on the side of the label",
    "abstained": "verdicts that said nothing",
    "raw_preference": "`preference` before `transforms`",
    "position_bias": "mean log-odds that the judges added to whatever was shown first",
    "reference": "the prompt's demonstration; null where there is none",
    "rounds": "revisions from the draft to the last one",
    "changed": "whether draft and revision differ at all",
}
"""Columns whose values do not speak for themselves."""

_PREFERENCES: Mapping[str, str] = {
    "judgments": "probability that the first response is better; null where every verdict "
    "abstained",
    "demonstrations": "mean preference over the response's judgments; null where nobody judged it",
    "revisions": "probability that the revision is better; null where no judge compared the two",
}
"""What ``preference`` means in each kind of record."""


def data_card(
    run: Run, *, what: str, columns: Sequence[str], records: int, left_out: int, digest: str
) -> str:
    """Return Markdown with the front matter that `datasets` and the hub read.

    Says who judged, under which constitution, what was dropped and why, and every notice of the
    run, self-judging first of all.

    Args:
        run: Where the records come from.
        what: Their kind: a key of `rlaif.runs.tables.TABLES`.
        columns: Those that were written.
        records: How many were written.
        left_out: Pairs below the asked margin.
        digest: SHA-256 of the data. The cache of `datasets` is keyed by the path and time of the
            data and by ``dataset_info``, so each export has its own entry. With a
            ``configs:`` block neither path nor time would count, only the folder's name.
    """
    manifest, status = run.manifest, run.status()
    lines = [
        "---",
        "dataset_info:",
        "  config_name: default",
        f"  description: sha256 {digest}",
        CARD_TAGS,
        "---",
        f"# {manifest.name}: {what}",
        "",
        f"{records} records from the run `{manifest.label}`, labelled by AI judges and rules "
        f"against the constitution `{manifest.constitution_label}`.",
        "",
        "## How it was made",
        "",
    ]
    lines += [f"- {role}: `{identity}`" for role, identity in manifest.engines.items()]
    lines += _sampled(manifest)
    notices = (*manifest.notices, *status.low_masses)
    lines += [f"- **notice:** {notice}" for notice in notices]
    lines += [
        "",
        "## What came of it",
        "",
        f"- prompts that became rows: {status.rows}; that failed: {status.failed}",
        *_removed(status, manifest),
        f"- judgments: {status.judgments}; verdicts that abstained: {status.abstained}",
        f"- preference pairs in the run: {status.pairs}; left out of this export: {left_out}",
    ]
    lines += [f"- prefix cache: {status.cache_words}"] if status.cache_words else []
    lines += [f"- label mass of {name}: {m:.3f} (median)" for name, m in status.label_mass.items()]
    lines += [f"- dropped {what_} ({reason}): {n}" for (what_, reason), n in status.drops.items()]
    lines += ["", "## What it cost", "", *_costs(status)]
    lines += [
        "",
        "## Columns",
        "",
        ", ".join(f"`{column}`" for column in columns),
        "",
        *_explained(what, columns),
        "## Principles",
        "",
    ]
    lines += [
        f"- `{principle['id']}`: {principle['statement']}"
        for principle in manifest.constitution.get("principles", [])
    ]
    return "\n".join(lines) + "\n"


def _sampled(manifest: Manifest) -> list[str]:
    """What labels that are shares of sampled verdicts are made of."""
    lines = []
    for judge in manifest.config.get("judges") or ():
        asked = judge.get("pairwise") or {}
        if asked.get("samples", 1) > 1:
            lines.append(
                f"- labels of the judge {judge['name']}: shares of {asked['samples']} verdicts per "
                f"order, sampled at temperature {asked['temperature']:g}"
            )
    return lines


def _explained(what: str, columns: Sequence[str]) -> list[str]:
    """What the numbers among the columns mean."""
    meanings = {**_MEANINGS, "preference": _PREFERENCES.get(what, "")}
    lines = [f"- `{column}`: {meanings[column]}" for column in columns if meanings.get(column)]
    return [*lines, ""] if lines else []


def _costs(status: RunStatus) -> list[str]:
    """Calls, tokens and money; what is not known is said to be unknown."""
    lines = [
        f"- {one.purpose} by {one.engine}: {one.calls} replies, {one.prompt_tokens} + "
        f"{one.completion_tokens} tokens, {_price(one)}"
        + (f"; {one.reused} more replies taken from other runs" if one.reused else "")
        for one in status.calls
    ]
    if status.price is not None:
        lines.append(f"- in all, as far as prices are known: {status.price:.4f}")
    return lines or ["- no model was asked"]


def _price(total: Total) -> str:
    if total.price is None:
        return "price unknown" if total.unpriced else "nothing paid"
    unpriced = f", {total.unpriced} of them at an unknown price" if total.unpriced else ""
    return f"price {total.price:.4f}{unpriced}"


def _removed(status: RunStatus, manifest: Manifest) -> list[str]:
    """What was left out of the prompts on purpose, and against what they were held."""
    lines = [f"- of those, left out on purpose: {n} ({kind})" for kind, n in status.removed.items()]
    decontaminate = (manifest.config.get("prompts") or {}).get("decontaminate")
    if decontaminate:
        sets = ", ".join(f"`{path.rpartition('/')[2]}`" for path in decontaminate["against"])
        lines.append(
            f"- prompts that hold {decontaminate['threshold']:.0%} of the {decontaminate['ngram']}-"
            f"grams of an item of {sets} were left out"
        )
    return lines
