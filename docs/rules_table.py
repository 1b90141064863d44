"""Write the table of rules in README.md from the registry: ``python docs/rules_table.py`` after adding a rule."""

import re
from pathlib import Path

import pyopt
from pyopt.kernels.rules import RULES

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- rules: written by docs/rules_table.py -->", "<!-- end of rules -->"
CLASSES = {kind.rule.name: name for name, kind in vars(pyopt).items() if hasattr(kind, "rule")}


def row(rule):
    """Return the line of one rule."""
    always = 4 * sum(state.when is None for state in rule.states)
    states = [f"`{s.name}`" + (f" (with `{s.when}`)" if s.when else "") for s in rule.states]
    more = [f"+ 4 with `{s.when}`" for s in rule.states if s.when]
    paper = re.search(r"https?://[^\s;]+", rule.doc.partition("Source:")[2])
    cells = [
        f"[`{rule.name}`](kernels/rules/{rule.name}.py)",
        f"`pyopt.{CLASSES[rule.name]}`",
        rule.decay,
        ", ".join(states) or "none",
        " ".join([str(always), *more]),
        f"[paper](<{paper.group()}>)" if paper else "",
    ]
    return f"| {' | '.join(cells)} |"


def table():
    """Return the lines between the two marks."""
    head = ["| rule | class | weight decay | states | bytes per fp32 parameter | source |", "|---|---|---|---|---|---|"]
    return "\n".join([BEGIN, *head, *(row(rule) for _, rule in sorted(RULES.items())), END])


def filled(text):
    """Return ``text`` with the table as it should be."""
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: table(), text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
