"""What is wrong with this machine, and how to mend it. torch is looked at, not imported."""

import locale
import os
import sys
from collections.abc import Iterator, Sequence

from aozora_tui.doctor import card, machine, terminal
from aozora_tui.doctor.finding import Finding, Level
from aozora_tui.text import printable
from engine.contract.problems import Problem

__all__ = ["Finding", "examine", "lines"]


def examine(problems: Sequence[Problem] = ()) -> tuple[Finding, ...]:
    """Look at everything; takes well under a second. `problems` are those of the settings."""
    from engine.contract import nvml

    readings = nvml.read_all()
    driver = next((reading.driver_version for reading in readings if reading.driver_version), None)
    cards = [card.described(reading.name, reading.memory_total) for reading in readings]
    return (
        machine.python(sys.version_info[:3]),
        *machine.packages(),
        *card.cards(cards, driver, nvml.why_not()),
        card.torch(card.torch_build(), driver, has_card=bool(readings)),
        *machine.folders(),
        *machine.memory(),
        *machine.logind(),
        machine.tokenizer(),
        *settings(problems),
        *terminal.terminal(os.environ, locale.getencoding(), terminal.size()),
    )


def settings(problems: Sequence[Problem]) -> Iterator[Finding]:
    """What is wrong with the settings file, and which keys in it may not arrive."""
    for problem in problems:
        level: Level = "wrong" if problem.severity == "error" else "note"
        text = f"{problem.path}: {problem.text}"
        yield Finding(topic="settings", level=level, text=text, remedy=problem.remedy)
    if not problems:
        yield Finding(topic="settings", level="ok", text="nothing in them is wrong")


def lines(findings: Sequence[Finding]) -> list[str]:
    """One line a finding, its remedy below it, and the sum of them."""
    said = []
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        said.append(f"{finding.level:<5}  {finding.topic:<{width}}  {finding.text}")
        if finding.remedy:
            said.append(f"{'':<5}  {'':<{width}}  -> {finding.remedy}")
    wrong = sum(finding.level == "wrong" for finding in findings)
    said.append(f"{wrong} of {len(findings)} wrong" if wrong else "nothing is wrong")
    return [printable(line) for line in said]
