"""JSON of the policies about identifiers in chats, and of what was found in one. Pure."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from appliance.accounts.guard_rules import GuardRules
from appliance.service.guard import GuardReport, Mark
from appliance.service.guard_policy import GuardView


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GuardPolicyRequest(_Body):
    """`allow`: nothing is looked for; `mark`: found and shown; `mask`: kept from the model; `block`: refused."""

    policy: Literal["allow", "mark", "mask", "block"]


class GuardMemberRequest(_Body):
    """The workspace in which an account works."""

    workspace: str = Field(max_length=64)


class GuardRulesBody(_Body):
    """The policy of every workspace, and the accounts that are in another one than `default`."""

    policies: dict[str, str]
    members: dict[str, str]


class MeasuredBody(_Body):
    """What finds identifiers here, and how well that was measured to work: the evidence in its file."""

    specialist: str
    version: str
    evaluations: list[dict[str, Any]]
    limits: str


class GuardBody(_Body):
    """What holds for the caller; `rules` for administrators and auditors. `measured` null: nobody finds any."""

    workspace: str
    policy: str
    rules: GuardRulesBody | None
    measured: MeasuredBody | None


def rules_body(rules: GuardRules) -> GuardRulesBody:
    """The rules as JSON."""
    return GuardRulesBody(policies=dict(sorted(rules.policies.items())), members=dict(sorted(rules.members.items())))


def guard_body(view: GuardView) -> GuardBody:
    """What `GET /v1/guard` answers, and `appliance guard show --json` prints."""
    found = view.measured
    measured = None
    if found is not None:
        measured = MeasuredBody(
            specialist=found.specialist,
            version=found.version,
            evaluations=list(found.evaluations),
            limits=found.limits,
        )
    rules = None if view.rules is None else rules_body(view.rules)
    return GuardBody(workspace=view.workspace, policy=view.policy, rules=rules, measured=measured)


def guard_extra(report: GuardReport | None) -> dict[str, Any]:
    """The member `guard` of an answer: what was found, by label, and where; under `mask` what stood there instead."""
    if report is None:
        return {}
    said: dict[str, Any] = {"policy": report.policy, "prompt": dict(report.prompt), "answer": dict(report.answer)}
    said["prompt_marks"] = [{"message": mark.message} | _mark(mark) for mark in report.prompt_marks]
    said["answer_marks"] = [_mark(mark) for mark in report.answer_marks]
    return {"guard": said}


def _mark(mark: Mark) -> dict[str, Any]:
    where = {"start": mark.start, "end": mark.end, "label": mark.label}
    return where | ({"placeholder": mark.placeholder} if mark.placeholder else {})
