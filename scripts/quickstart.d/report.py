"""What the quickstart measured, in one screen; the last step of scripts/quickstart."""

from pathlib import Path

from rlaif import open_run
from rlaif.evaluation.scorecard import Estimate, read_scorecard

OUT = Path("quickstart")
NEXT = """\
next:
  rlaif init my-project                 a project of your own, to edit
  rlaif constitution lint my-project/constitution.yaml
  rlaif generate my-project/run.yaml    with a judge of your own (below)

A judge of 135 million parameters is not fit to label by itself: on human preferences it is at
chance, whatever the method. It shows that the machinery works, no more. To put a real judge in its
place, name one in the run file, any OpenAI-compatible server will do:

  judges:
    - name: main
      engine: openai
      model: your/judge
      base_url: http://127.0.0.1:8000/v1
      method: pairwise"""


def shown(estimate: Estimate, percent: bool) -> str:
    if estimate.estimate is None:
        return "not measured"
    scale, unit = (100.0, "%") if percent else (1.0, "")
    text = f"{estimate.estimate * scale:.{1 if percent else 2}f}{unit}"
    if estimate.low is not None and estimate.high is not None:
        text += f" [{estimate.low * scale:.1f}, {estimate.high * scale:.1f}]"
    return text


def main() -> None:
    card = read_scorecard(OUT / "evaluation" / "scorecard.json")
    print(f"On {card.slices['all']} held-out prompts, 95% intervals over prompts:\n")
    rows = [
        ("responses that follow every rule", "rules", True),
        ("of at most 60 words", "rules/brief", True),
        ("that end with a finished sentence", "rules/finished", True),
        ("words per response", "length/words", False),
        ("responses cut off at the token limit", "length/cut-off", True),
        ("distinct 2-grams", "diversity/distinct-2", False),
        ("repeats within a response", "diversity/self-repetition", False),
        ("log-likelihood per token under the base model", "likelihood", False),
    ]
    for words, measure, percent in rows:
        try:
            before, after = (card.estimate(model, measure) for model in ("before", "after"))
        except KeyError:
            continue
        print(f"  {words:46} {shown(before, percent)} → {shown(after, percent)}")
    change = card.change("after", "rules")
    if change.estimate is not None and change.low is not None and change.high is not None:
        print(
            f"\n  change in responses that follow every rule: {100 * change.estimate:+.1f} points "
            f"[{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
        )
    print("\nWhat became of the prompts:")
    for name in ("run", "judged"):
        status = open_run(OUT / name).status()
        print(
            f"  {OUT / name}: {status.rows} rows, {status.failed} failed, {status.responses} "
            f"responses, {status.judgments} judgments, {status.pairs} pairs, "
            f"{status.abstained} verdicts abstained"
        )
        for (what, reason), count in sorted(status.drops.items()):
            print(f"    {count} × {what} left out: {reason}")
        for notice in status.notices:
            print(f"    notice: {notice}")
    print(f"""
where it lies:
  {OUT}/run          every response, judgment and pair; every model call
  {OUT}/pairs        the preference data set with its card
  {OUT}/checkpoint   the trained model, its curves and card
  {OUT}/evaluation   the scorecard and report, by kind of prompt
""")
    print(NEXT)


if __name__ == "__main__":
    main()
