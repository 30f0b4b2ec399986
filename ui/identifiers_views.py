"""What the Identifiers page shows of the API's answer, as HTML. Pure: no Gradio, no call; values through `markup.py`.

An error rate is what is missing from a measured figure: of all identifiers so many were found, so the rest is missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ui.figures import Figure, error_rate
from ui.markup import fragment

Answer = Mapping[str, Any]

DEFAULT = "default"
# What a policy is called, what it does in one sentence, and how it is tinted.
POLICIES: Mapping[str, tuple[str, str, str]] = {
    "allow": ("Allow", "Nothing is looked for.", "plain"),
    "mark": ("Mark", "Found and shown. The model reads them.", "warn"),
    "mask": ("Mask", "The model reads placeholders; who asked sees their own words.", "good"),
    "block": ("Block", "A question or an answer that holds one is refused.", "good"),
}
# Figures of which less than all is an error, and what that error is called.
_ERRORS = (
    ("recall", "Identifiers that are missed"),
    ("without_leak", "Texts in which at least one is missed"),
    ("names_whole", "Names that are not found whole"),
    ("precision", "Marked passages that are none"),
)
_OVER = ("over_redaction", "Texts without any in which something is marked")


def rules(answer: Answer) -> str:
    """Every workspace with its policy and people; for whoever may not see that, their own."""
    found = answer.get("rules")
    if found is None:
        title, does, kind = _policy(answer["policy"])
        return fragment("identifiers_own", workspace=answer["workspace"], title=title, does=does, kind=kind)
    people: dict[str, list[str]] = {}
    for account, workspace in found["members"].items():
        people.setdefault(workspace, []).append(account)
    rows = []
    for workspace, policy in sorted(found["policies"].items(), key=lambda rule: (rule[0] != DEFAULT, rule[0])):
        title, does, kind = _policy(policy)
        named = ", ".join(sorted(people.get(workspace, ())))
        rows.append(
            {
                "workspace": workspace,
                "title": title,
                "does": does,
                "kind": kind,
                "people": "everybody else" if workspace == DEFAULT else named or "nobody",
            }
        )
    return fragment("identifiers_rules", rules=rows)


def measured(answer: Answer) -> str:
    """How often what finds identifiers here errs, as its file states it."""
    found = answer.get("measured")
    evaluations = [
        {**one, "errors": errors} for one in (found or {}).get("evaluations", ()) if (errors := _errors(one["metrics"]))
    ]
    return fragment("identifiers_measured", measured=found, evaluations=evaluations)


def _policy(policy: object) -> tuple[str, str, str]:
    return POLICIES.get(str(policy), (str(policy), "", "plain"))


def _errors(metrics: Answer) -> list[Figure]:
    errors = [error_rate(name, title, metrics) for name, title in _ERRORS if name in metrics]
    name, title = _OVER
    return [*errors, *([error_rate(name, title, metrics, of_itself=True)] if name in metrics else [])]
