"""How two checkpoints differ, in words and a table that fit a screen of 80 x 24."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from aozora_tui.text import folded, printable, table
from engine.contract.comparison import Comparison, MatrixVerdict, Names, Row, Side
from engine.contract.tensor_places import OTHER, UNET, place_of

_WIDTH = 80


def lines(found: Comparison) -> list[str]:
    """The verdict, what else is to be known, the table, and what the verdict rests on."""
    said = [_headline(found), *_remarks(found)]
    rows = [row for row in found.rows if not row.kind and (row.changed or (row.block and _of(found, UNET).changed))]
    wrapped = [line for text in said for line in folded(text, _WIDTH)]
    if rows:
        wrapped += table([("", "CHANGED", "ELEMENTS", "CHANGE", "LARGEST"), *map(_cells, rows)])
    kinds = [row for row in found.rows if row.kind and not row.block and row.changed]
    if kinds:
        wrapped += folded("by kind: " + ", ".join(f"{row.kind} {_relative(row)}" for row in kinds), _WIDTH)
    return [printable(line) for line in (*wrapped, *(line for text in _rank(found) for line in folded(text, _WIDTH)))]


# -- the verdict -------------------------------------------------------------------------------------------------------


def _headline(found: Comparison) -> str:
    parts = [row for row in found.rows if not row.block and not row.kind]
    number = sum(row.tensors for row in parts)
    if found.identical:
        return f"A and B are identical: {number:,} tensors, bit for bit the same."
    if not parts:
        return f"A and B have no tensor of one name and shape in common: {_kinds(found)}."
    changed = [row for row in parts if row.changed]
    if not changed:
        if any(row.recast for row in parts):
            return f"B is A in another number type: {number:,} tensors hold the same numbers, up to that rounding."
        return f"All {number:,} tensors that A and B share are identical, bit for bit."
    counts = [_count(row) for row in changed]
    same = [_named(row) for row in parts if not row.changed and not row.recast]
    recast = [_named(row) for row in parts if not row.changed and row.recast]
    rest = [
        f"identical: {_and(same)}" if same else "",
        f"only stored in another type: {_and(recast)}" if recast else "",
    ]
    return f"{_verdict(found)}: {'; '.join([*counts, *filter(None, rest)])}."


def _count(row: Row) -> str:
    by = "" if row.relative_change is None else f", by {_relative(row)}"
    return f"{row.changed:,} of {row.tensors:,} {row.part} tensors changed{by}"


def _verdict(found: Comparison) -> str:
    rank = found.rank
    match rank.verdict:
        case "full":
            return "B is a full fine-tune of A"
        case "low-rank":
            return f"B is A with a low-rank adapter merged in (rank about {rank.rank})"
        case "mixed":
            about = f"{rank.low_rank} low-rank (rank up to about {rank.rank}), {rank.full} full"
            return f"B is A with a mixed change, of the matrices examined {about}"
        case "undecided":
            return "B differs from A; fine-tuned or merged with an adapter is undecided"
        case "none":
            return "B differs from A, in no matrix that the rank test could judge"


def _rank(found: Comparison) -> Iterable[str]:
    rank = found.rank
    if not rank.examined or rank.effective_share is None:
        return
    verdicts = f"{rank.full} full, {rank.low_rank} low-rank, {rank.undecided} undecided"
    share = f"median effective rank {100 * rank.effective_share:.0f} % of the largest possible"
    more = "; --all examines every one" if rank.examined < rank.changed else ""
    yield f"rank test of {rank.examined} of {rank.changed:,} changed matrices: {verdicts}; {share}{more}"
    if rank.verdict == "mixed":
        yield f"low-rank: {_where(found, 'low-rank')}; full: {_where(found, 'full')}"
    if rank.verdict == "undecided":
        yield "What was changed is too small beside the rounding of the stored numbers to be told."
    elif rank.verdict == "full":
        yield "It is blind to adapters of full rank (LoHa, LoKr) and mixes of whole models."


def _where(found: Comparison, verdict: MatrixVerdict) -> str:
    places = [place_of(matrix.name) for matrix in found.rank.matrices if matrix.verdict == verdict]
    counts = Counter(place.kind or place.part for place in places)
    return ", ".join(f"{kind} {number}" for kind, number in counts.most_common())


# -- what else is to be known ------------------------------------------------------------------------------------------


def _remarks(found: Comparison) -> Iterable[str]:
    for side, only in (("A", found.only_a), ("B", found.only_b)):
        if only.count:
            yield f"only in {side}: {only.count:,} tensors ({_first(only)})"
    if found.reshaped_count:
        reshaped = found.reshaped[0]
        shapes = f"{reshaped.name}: {list(reshaped.a)} in A, {list(reshaped.b)} in B"
        yield f"not comparable, the shape differs: {found.reshaped_count:,} tensors ({shapes})"
    if found.recast:
        kinds = ", ".join(f"{kind.a} in A, {kind.b} in B: {kind.tensors:,}" for kind in found.recast)
        yield f"number type differs ({kinds} tensors); compared in float32"
    if found.not_finite_count:
        bad = found.not_finite[0]
        where = f"{bad.name}: {bad.a:,} in A, {bad.b:,} in B"
        yield f"NaN or infinite values in {found.not_finite_count:,} tensors ({where})"
    a, b = _prediction(found.a), _prediction(found.b)
    if a != b and found.rows:
        yield f"prediction type: {a} in A, {b} in B"
    if found.metadata:
        keys = [difference.key for difference in found.metadata]
        yield textwrap.shorten(f"metadata differs in {len(keys)} keys: {', '.join(keys)}", _WIDTH, placeholder=" ...")


def _kinds(found: Comparison) -> str:
    """An adapter is not compared with a model; the model before and after it is."""
    kinds = found.a.architecture, found.b.architecture
    advice = ". Whether it was merged, the model before and the model after it tell" if "an adapter" in kinds else ""
    return f"A is {kinds[0]}, B is {kinds[1]}{advice}"


def _prediction(side: Side) -> str:
    return side.prediction_type + (" with zero terminal SNR" if side.zero_terminal_snr else "")


def _first(names: Names) -> str:
    return names.first[0] + (", ..." if names.count > 1 else "")


# -- cells -------------------------------------------------------------------------------------------------------------


def _cells(row: Row) -> Sequence[str]:
    name = f"  {row.block}" if row.block else row.part
    changed = f"{row.changed:,} of {row.tensors:,}"
    if not row.changed:
        return name, changed, "-", "-", "-"
    share = _percent(row.elements_changed / row.elements) if row.elements else "-"
    return name, changed, share, _relative(row), f"{row.max_abs:.3g}"


def _relative(row: Row) -> str:
    return "-" if row.relative_change is None else _percent(row.relative_change)


def _percent(share: float) -> str:
    """Three digits; what is not all of it is not called 100 %."""
    value = 100 * share
    if 0 < value < 0.0005:
        return "<0.001 %"
    if value >= 1000:
        return f"{value:,.0f} %"
    if value >= 99.95:
        return "100 %" if value == 100 else f"{value:.0f} %" if value > 100 else ">99.9 %"
    return f"{value:#.3g} %"


def _of(found: Comparison, part: str) -> Row:
    return next(row for row in found.rows if row.part == part and not row.block and not row.kind)


def _named(part: Row) -> str:
    return "the rest" if part.part == OTHER else part.part


def _and(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else words[0]
