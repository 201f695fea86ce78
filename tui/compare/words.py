"""What the Compare screen says in sentences: who A and B are, how the problems flipped, and what is amiss."""

from __future__ import annotations

from textual.content import Content

from core.contract.record import ACTIVE
from core.contract.wording import SIGNIFICANT, flips_verdict, unsplit_warning
from tui.compare.comparison import Comparison, Side
from tui.compare.curves import SIDE_STYLES
from tui.compare.metrics import metrics, metrics_text
from tui.compare.settings import fitted
from tui.compare.verdicts import Counts, Flip, Kind
from tui.formatting import counted, figure
from tui.visible import visible_line

NAMED = 4
"""Problems that a sentence names."""

KIND_WORDS: dict[Kind, str] = {
    "heldout": "held-out", "mixed": "held out in one run only", "train": "training", "": "of no split",
}
_TAGS: dict[Kind, str] = {"heldout": "held-out", "mixed": "mixed", "train": "train", "": ""}


def letter(side: str) -> Content:
    """A or B, as it looks everywhere on the screen."""
    return Content.styled(f" {side} ", f"bold reverse {SIDE_STYLES[side]}")


def side_line(name: str, side: Side, width: int) -> Content:
    """Letter, run, checkpoint, epoch, held-out loss; what has no room at the end is left out whole."""
    row = side.row
    facts = [f"epoch {row.epoch:,}"] if row.epoch is not None else []
    facts += [f"held-out loss {figure(row.heldout_loss)}"] if row.heldout_loss is not None else []
    facts += [f"pass@1 {figure(side.overall.pass_at_1)}" if side.overall else "not scored"]
    head = Content.assemble(letter(name), " ", visible_line(side.run_id), "  ", (visible_line(row.name), "bold"))
    for count in range(len(facts), 0, -1):
        line = Content.assemble(head, "   ", ("  ".join(facts[:count]), "$text-muted"))
        if line.cell_length <= width:
            return line
    return head.truncate(width, ellipsis=True)


def sentences(comparison: Comparison) -> list[Content]:
    """What the problems say: for the held-out ones, for all, then what was left out and why."""
    if not comparison.complete:
        return [Content.styled("reading the results …", "$text-muted italic")]
    return [*_results(comparison), *_moving(comparison)]


def _results(comparison: Comparison) -> list[Content]:
    unscored = _unscored(comparison)
    if unscored:
        return [*unscored, *_faults(comparison)]
    pairing, heldout, overall = comparison.pairing, comparison.pairing.of("heldout"), comparison.pairing.of("all")
    if not overall.total:
        return [Content.styled("! A and B have no problem in common: they were scored on different data sets",
                               "$text-warning"), *_only_in_one(comparison), *_faults(comparison)]
    lines = []
    if heldout.total:
        lines.append(_sentence(f"{heldout.total} held-out", heldout))
    elif pairing.of("mixed").total or pairing.of("train").total:
        lines.append(Content.styled("no problem is held out in both, so nothing here is a fair test", "$text-warning"))
    trained = overall.total - heldout.total - pairing.of("").total
    among = f" ({trained} of them training data)" if trained else ""
    lines.append(_sentence(f"all {overall.total}{among}", overall))
    if pairing.of("mixed").total:
        lines.append(Content.styled(
            f"! {counted(pairing.of('mixed').total, 'problems')} held out in one run and trained on in the other: the "
            "runs split the problems differently, and the held-out figures are not of the same problems",
            "$text-warning"))
    for name, side in _sides(comparison):
        if heldout.total and side.verdicts.unsplit:
            lines.append(Content.styled(f"! {unsplit_warning(name, 'B' if name == 'A' else 'A')}", "$text-warning"))
    return [*lines, *_samples(comparison), *_only_in_one(comparison), *_faults(comparison)]


def _samples(comparison: Comparison) -> list[Content]:
    """What "passes" means where problems have several samples, and whether A and B had as many."""
    a, b = (side.verdicts.problems for _, side in _sides(comparison))
    common = a.keys() & b.keys()
    tried, also = (sum(problems[name].samples for name in common) for problems in (a, b))
    if tried != also:
        return [Content.styled(
            f"! A has {counted(tried, 'samples')} of these problems and B {also:,}: a problem passes when one of its "
            "samples does, so the one with more passes more by trying more", "$text-warning")]
    return [Content.styled("· a problem passes when at least one of its samples does",
                           "$text-muted")] if tried > len(common) else []


def _sentence(which: str, counts: Counts) -> Content:
    significant = (counts.gained or counts.lost) and counts.p < SIGNIFICANT
    better = counts.gained > counts.lost
    sign, style = (("▲", "$text-success") if better else ("▼", "$text-error")) if significant else ("≈", "$text-muted")
    said = flips_verdict(counts.gained, counts.lost)
    return Content.assemble((f"{sign} ", f"bold {style}"), (f"{which}: ", "bold"), said)


def _unscored(comparison: Comparison) -> list[Content]:
    """Who has no results, and what to press for them."""
    names = [name for name, side in _sides(comparison) if not side.verdicts.problems and not side.verdicts.fault]
    if comparison.same:
        names = names[:1]
    if not names:
        return []
    who = " and ".join(names)
    return [Content.assemble(
        ("! ", "bold $text-warning"), f"{who} {'was' if len(names) == 1 else 'were'} not scored, so there are no "
        "problems to compare. ", ("esc", "bold $accent"), " goes back to Checkpoints, where ", ("E", "bold $accent"),
        " scores a checkpoint.")]


def _only_in_one(comparison: Comparison) -> list[Content]:
    pairing = comparison.pairing
    return [
        Content.styled(f"· only {name} has {counted(len(only), 'problems')}, not counted: {_named(only)}",
                       "$text-muted")
        for name, only in (("A", pairing.only_a), ("B", pairing.only_b)) if only
    ]


def _named(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(visible_line(name) for name in names[:NAMED]) + more


def _moving(comparison: Comparison) -> list[Content]:
    """Checkpoints that a run at work writes anew: the cosine map reads the file as it is by then."""
    return [
        Content.styled(f"! {name} is {side.row.name} of a run at work, which writes it anew: these figures are as it "
                       "was when this opened", "$text-warning")
        for name, side in _sides(comparison) if side.row.state in ACTIVE and side.row.name in ("best", "last")
    ]


def _faults(comparison: Comparison) -> list[Content]:
    lines = []
    for name, side in _sides(comparison):
        verdicts = side.verdicts
        if verdicts.fault:
            lines.append(Content.styled(f"✗ {name}: {visible_line(verdicts.fault)}", "$text-error"))
        elif verdicts.left_out:
            lines.append(Content.styled(
                f"! {name}: {counted(verdicts.left_out, 'lines')} of results.jsonl torn or without a verdict, left out",
                "$text-warning"))
    return lines


def _sides(comparison: Comparison) -> tuple[tuple[str, Side], ...]:
    return ("A", comparison.a), ("B", comparison.b)


def flip_heading(kind: Kind, flips: list[Flip]) -> Content:
    """The line above the flips of one kind."""
    gained = sum(flip.gained for flip in flips)
    return Content.assemble((f"{KIND_WORDS[kind]}: ", "bold $text-accent"),
                            (f"{gained} gained, {len(flips) - gained} lost", "$text-muted"))


def flip_line(flip: Flip, width: int, here: bool) -> Content:
    """Cursor, gained or lost, the problem, its side, and what A and B did."""
    sign, style = ("▲ gained", "$text-success") if flip.gained else ("▼ lost", "$text-error")
    tag = "bold $text-accent" if flip.kind == "heldout" else "$text-muted"
    head = Content.assemble(("▸" if here else " ", "bold $text-accent"), (f"{sign:<9}", f"bold {style}"),
                            fitted(Content(visible_line(flip.task_id)), 14), " ", (f"{_TAGS[flip.kind]:<9}", tag))
    verdicts = Content.assemble(_verdict("A", flip.a, not flip.gained), "  ", _verdict("B", flip.b, flip.gained))
    return Content.assemble(head, verdicts).truncate(width, ellipsis=True)


def _verdict(name: str, word: str, passed: bool) -> Content:
    sign, style = ("✓", "$text-success") if passed else ("✗", "$text-error")
    said = Content.styled(f"{sign} {visible_line(word)}", style)
    return Content.assemble((f"{name} ", "$text-muted"), fitted(said, 14))


def settings_words(comparison: Comparison) -> list[Content]:
    """What there is to say of the settings beside the table of differences."""
    if not comparison.complete:
        return [Content.styled("reading the settings …", "$text-muted italic")]
    lines = [Content.styled(f"✗ {name}: {side.config_fault}", "$text-error")
             for name, side in _sides(comparison) if side.config_fault]
    if comparison.one_run and not lines:
        lines.append(Content("the same settings: A and B are of one run"))
    elif not lines and not comparison.differences:
        lines.append(Content("the same settings"))
    return lines


def nothing_flipped(comparison: Comparison) -> list[Content]:
    """What stands in place of a list of flips where there are results and none differ."""
    if comparison.pairing.flips or not comparison.pairing.of("all").total:
        return []
    why = "A and B are the same checkpoint" if comparison.same else "every problem ends the same way in both"
    return [Content(""), Content.styled(why, "$text-muted italic")]


def comparison_text(comparison: Comparison) -> str:
    """The whole comparison as plain text: who, metrics, sentences, flips, settings."""
    parts = [f"{name}: {visible_line(side.row.key)}" for name, side in _sides(comparison)]
    parts += ["", metrics_text(metrics(comparison)), "", *(line.plain for line in sentences(comparison))]
    parts += [f"{'gained' if flip.gained else 'lost'}\t{visible_line(flip.task_id)}\t{KIND_WORDS[flip.kind]}\t"
              f"A {visible_line(flip.a)}\tB {visible_line(flip.b)}" for flip in comparison.pairing.flips]
    parts += ["", *(line.plain for line in settings_words(comparison))]
    parts += [f"{one.setting}\tA {one.a}\tB {one.b}" for one in comparison.differences]
    return "\n".join(parts).rstrip()
