from dataclasses import replace
from io import StringIO

from rich.console import Console

from rlaif.evaluation.measure import Measure
from rlaif.evaluation.render import format_estimate, render_markdown, render_table
from rlaif.evaluation.scorecard import Estimate
from tests.evaluation.test_scorecard import CARD, RULES

WORDS = Measure("length/words", "words", better="neither", kind="number", cannot_tell="much")


def shown(estimate: float | None, low: float | None, high: float | None, n: int = 0) -> Estimate:
    return Estimate("m", "rules", "all", estimate, low, high, 5, 5, n, "bootstrap")


def test_shares_are_shown_in_per_cent_and_their_changes_in_points() -> None:
    assert format_estimate(shown(0.432, 0.381, 0.48), RULES) == "43.2 % [38.1, 48.0]"
    assert format_estimate(shown(0.15, 0.09, 0.21), RULES, change=True) == "+15.0 [+9.0, +21.0]"


def test_numbers_keep_what_matters_of_their_digits() -> None:
    assert format_estimate(shown(61.25, 58.04, 64.96), WORDS) == "61.2 [58.0, 65.0]"
    assert format_estimate(shown(-2.1234, None, None), WORDS, change=True) == "-2.123"


def test_ignorance_is_shown_as_such() -> None:
    assert format_estimate(shown(None, None, None, 7), RULES) == "– (7 unscored)"


def test_the_report_holds_every_number_notice_and_caveat() -> None:
    text = render_markdown(CARD)
    assert "| measure | base | policy | change of policy |" in text
    assert "| rules ↑ | 40.0 % [30.0, 50.0] (2 unscored) | – (2 unscored) |" in text
    assert "| easy (4) | rules ↑ | – | – | -30.0 [-40.0, -20.0] (2 unscored) |" in text
    assert "mind \\| the &lt;gap>" in text
    assert "| policy: http-500 | 3 |" in text
    assert "Cannot tell much" in text
    assert CARD.fingerprint in text


def test_text_from_a_constitution_cannot_break_the_report() -> None:
    nasty = replace(RULES, says="a | b\n\n# no heading <script>")
    text = render_markdown(replace(CARD, measures=(nasty,)))
    assert "\n# no heading" not in text
    assert "<script" not in text


def test_the_terminal_table_shows_the_same_cells_and_no_markup_of_others() -> None:
    stream = StringIO()
    card = replace(CARD, name="[red]x[/red]")
    Console(file=stream, width=120).print(render_table(card))
    assert "[red]x[/red]" in stream.getvalue()
    assert "40.0 % [30.0, 50.0]" in stream.getvalue()
    assert "+25.0" in stream.getvalue()
