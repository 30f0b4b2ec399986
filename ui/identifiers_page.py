"""The Identifiers page: what happens to names and numbers of persons in conversations with models that write.

Which policy holds for whom, beside how often what finds them errs. An administrator decides, and each decision is
recorded before it holds.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui import identifiers_views, views
from ui.client import Client, Refused, Visitor
from ui.drawing import OPTIONS, Opening, draw_head, html, line, visitor_of
from ui.identifiers_views import DEFAULT, POLICIES
from ui.markup import fragment
from ui.settings import UiSettings

_LEAD = (
    "What happens to names and numbers of persons in conversations with models that write, and how well they are found."
)
_SET_LEAD = "For a workspace that is there, or a new one."
_PUT_LEAD = "A person is in one workspace at a time."
_CHANGE = "The policy holds for everybody in this workspace from the next question on. The change is recorded."


def draw_identifiers_page(opening: Opening, client: Client, settings: UiSettings) -> None:
    """Place the components and wire them. Called inside the page's route."""
    draw_head(opening, client, settings, title="Identifiers", lead=_LEAD)
    problem = html(elem_id="problem")
    said = html(elem_id="said")
    with gr.Row(elem_classes="work audit"):
        with gr.Column(scale=7, min_width=320):
            rules = html(fragment("card_waiting"), elem_id="rules")
            with gr.Row(elem_classes="for-admin part"), gr.Column():
                html(fragment("section_head", title="Set a policy", lead=_SET_LEAD))
                workspace = line("Workspace", elem_id="policy-workspace", placeholder=DEFAULT, chars_max=32)
                policy = gr.Radio(
                    [(f"{title}: {does}", name) for name, (title, does, _) in POLICIES.items()],
                    value="mask",
                    label="Policy",
                    elem_id="policy-choice",
                    container=False,
                )
                with gr.Row(elem_classes="actions"):
                    decide = gr.Button("Set this policy", variant="primary", elem_id="policy-set")
                html(fragment("confirm", for_="policy-set", button="Set this policy", text=_CHANGE))
            with gr.Row(elem_classes="for-admin part"), gr.Column():
                html(fragment("section_head", title="Put somebody into a workspace", lead=_PUT_LEAD))
                with gr.Row(elem_classes="row"):
                    account = line("Account", elem_id="member-account", placeholder="user name", chars_max=64)
                    into = line("Into workspace", elem_id="member-workspace", placeholder=DEFAULT, chars_max=32)
                with gr.Row(elem_classes="actions"):
                    assign = gr.Button("Put them there", elem_id="member-set")
            html(fragment("only_admin", text="An administrator sets policies and who works in which workspace."))
        with gr.Column(scale=5, min_width=320):
            measured = html(fragment("card_waiting"), elem_id="measured")
    shown = [problem, said, rules, measured]

    async def draw(visitor: Visitor, said: str) -> tuple[Any, ...]:
        try:
            answer = await visitor.guard()
        except Refused as refusal:
            return views.problem(refusal), said, "", ""
        return "", said, identifiers_views.rules(answer), identifiers_views.measured(answer)

    async def show(request: gr.Request) -> tuple[Any, ...]:
        return await draw(visitor_of(request, client, settings), "")

    async def set_policy(workspace: str | None, policy: str | None, request: gr.Request) -> tuple[Any, ...]:
        visitor, name = visitor_of(request, client, settings), (workspace or "").strip() or DEFAULT
        try:
            await visitor.set_guard_policy(name, policy or "")
        except Refused as refusal:
            return views.problem(refusal), "", *(gr.skip() for _ in shown[2:])
        text = f"{name}: {POLICIES[policy or ''][0].lower()} from the next question on."
        return await draw(visitor, fragment("notice", heading="Policy set", text=text))

    async def put(account: str | None, workspace: str | None, request: gr.Request) -> tuple[Any, ...]:
        visitor = visitor_of(request, client, settings)
        person, name = (account or "").strip(), (workspace or "").strip() or DEFAULT
        try:
            await visitor.assign_workspace(person, name)
        except Refused as refusal:
            return views.problem(refusal), "", *(gr.skip() for _ in (*shown[2:], account))
        done = fragment("notice", heading="Put there", text=f"{person} works in {name} from now on.")
        return *await draw(visitor, done), ""

    opening.show(show, *shown)
    decide.click(set_policy, [workspace, policy], shown, **OPTIONS)
    assign.click(put, [account, into], [*shown, account], **OPTIONS)
