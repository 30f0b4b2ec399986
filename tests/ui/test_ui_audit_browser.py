"""Guaranteed, as an auditor and an administrator meet it in a browser: a search tells how far it is and can be left;
content opens for those who may; what destroys asks first, shows what goes, and is refused in the API's words; alarm
and quarantine are on every audit page in words; the site page says what protects it and what to do; hostile values
stay text; every page passes axe in both themes.

Chromium against a server process over the in-memory API. Every test ends with the recorder's lists empty."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browsing import (
    SCREENSHOTS,
    WAIT_MS,
    Recorder,
    Server,
    axe_findings,
    new_context,
    saved_text,
    sign_in,
)
from fake_api import PASSWORD
from fake_audit import EXPORT_PIECES, new_exposure
from fake_site import two_models, unprotected, well_protected
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.timeout(600)  # of a busy machine: starting Chromium alone can take a minute

PAGES = (
    "audit",
    "audit-search",
    "audit-activity",
    "audit-proof",
    "audit-holds",
    "audit-retention",
    "audit-erasure",
    "site",
    "identifiers",
    "people",
)
HOSTILE = '<img src=x onerror=window.pwned=1> **b** [x](http://evil.test/) " onclick="window.pwned=2" </button></td>'
# What Gradio's client says when a page is left while an answer is on its way to it.
LEAVING = ["AbortError", "network error", "Connection errored out"]
MOVED_MAX = 0.1  # cumulative layout shift that counts as good


@pytest.fixture(autouse=True)
def calm(server: Server, recorder: Recorder) -> None:
    server.control(search_waits=False, search_limit=None, holds=[], destroyed={}, exposure=new_exposure())
    recorder.expected += LEAVING


@pytest.fixture
def auditor(browser: Browser, server: Server, recorder: Recorder) -> Iterator[Page]:
    with new_context(browser, server, recorder) as context:
        page = context.new_page()
        sign_in(page, "a.stone")
        yield page


@pytest.fixture
def admin(browser: Browser, server: Server, recorder: Recorder) -> Iterator[Page]:
    with new_context(browser, server, recorder) as context:
        yield signed_in_as(context.new_page(), "d.reed")


def signed_in_as(page: Page, name: str) -> Page:
    page.goto("/login")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#standing .is-good, .quarantine")).to_be_visible()
    return page


def open_page(page: Page, name: str) -> None:
    page.goto(f"/app/{name}")
    expect(page.locator("#standing :is(.is-good, .is-bad, .quarantine)")).to_be_visible()


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_a_search_shows_how_far_it_is_finds_and_narrows_by_pressing_a_value(auditor: Page, server: Server) -> None:
    open_page(auditor, "audit-search")
    auditor.get_by_label("Any time").check()
    auditor.get_by_label("Words").fill("deidentify")
    server.control(search_waits=True)
    press(auditor, "Search")
    expect(auditor.locator("#progress progress")).to_be_visible()
    expect(auditor.get_by_role("button", name="Stop")).to_be_enabled()
    server.control(search_waits=False)
    expect(auditor.locator("#progress")).to_contain_text("60 records found. The search is complete")
    expect(auditor.locator("[data-open-record]")).to_have_count(60)
    expect(auditor.get_by_role("button", name="Stop")).to_be_disabled()
    auditor.locator("[data-narrow=exchange]").nth(2).click()
    expect(auditor.locator("#progress")).to_contain_text("1 record found.")
    asked = server.control()["audit"]["searches"][-1]
    assert (asked["text"], len(asked["exchange_id"]), asked["event"]) == ("deidentify", 32, None)
    auditor.locator("[data-open-record]").click()
    expect(auditor.locator("#record h2")).to_be_focused()
    auditor.locator("#find-outcome input").fill("refused")
    auditor.keyboard.press("Enter")
    expect(auditor.locator("#records")).to_contain_text("Nothing was found")
    assert "?" not in auditor.url


def test_a_search_ends_by_stop_by_another_search_and_by_leaving_the_page(auditor: Page, server: Server) -> None:
    def begin() -> None:
        press(auditor, "Search")
        expect(auditor.get_by_role("button", name="Stop")).to_be_enabled()

    def left(count: int) -> None:
        for _ in range(WAIT_MS // 100):
            if server.control()["audit"]["cancelled"] == before + count:
                return
            auditor.wait_for_timeout(100)
        pytest.fail(f"the API still works for somebody who has left: {server.control()['audit']}")

    before = server.control(search_waits=True)["audit"]["cancelled"]
    open_page(auditor, "audit-search")
    auditor.get_by_label("Any time").check()
    begin()
    press(auditor, "Stop")
    expect(auditor.locator("#progress")).to_contain_text("Stopped, so this is not everything.")
    left(1)
    begin()
    auditor.locator("#find-event input").fill("other")
    auditor.keyboard.press("Enter")
    left(2)
    auditor.goto("/app/audit-proof")
    left(3)
    server.control(search_waits=False)


def test_a_search_that_ended_early_or_for_a_wrong_day_says_so(auditor: Page, server: Server) -> None:
    open_page(auditor, "audit-search")
    server.control(search_limit=5)
    auditor.get_by_label("From … to …").check()
    auditor.get_by_label("First day (UTC)").fill("2026-11-23")
    auditor.get_by_label("Last day (UTC)").fill("2026-11-23")
    press(auditor, "Search")
    expect(auditor.locator("#progress")).to_contain_text("This is not everything.")
    asked = server.control(search_limit=None)["audit"]["searches"][-1]
    assert (asked["from"], asked["to"]) == ("2026-11-23T00:00:00+00:00", "2026-11-24T00:00:00+00:00")
    auditor.get_by_label("Last day (UTC)").fill("2026-11-01")
    press(auditor, "Search")
    expect(auditor.get_by_role("alert")).to_contain_text("the last day is before the first")


def test_a_record_opens_by_role_shows_its_proof_and_what_destroyed_its_content(
    auditor: Page, browser: Browser, server: Server, recorder: Recorder
) -> None:
    auditor.goto("/app/audit?number=7")
    record = auditor.locator("#record")
    expect(record.locator("h2")).to_have_text("Record 7")
    expect(record).to_contain_text("Proven outside")
    expect(record.locator(".content")).to_have_text("a note")
    record_id = record.locator("[data-record]").get_attribute("data-record")
    server.control(destroyed={record_id: {"seq": 12, "kind": "shred", "time": "2026-11-24T09:00:00+00:00"}})
    auditor.get_by_label("Record id").fill(str(record_id))
    press(auditor, "Open")
    expect(record).to_contain_text("under record 12, shred")
    expect(record.locator(".content")).to_have_count(0)
    server.control(destroyed={})
    record.get_by_role("link", name="All its records").click()
    expect(auditor.locator("#progress")).to_contain_text("1 record found.")
    with new_context(browser, server, recorder) as context:
        user = context.new_page()
        sign_in(user)
        user.goto(f"/app/audit?record={record_id}")
        expect(user.locator("#record")).to_contain_text("The content is sealed; your role does not open it.")
        expect(user.locator("#record .content")).to_have_count(0)


def test_a_hold_is_released_by_two_people_and_the_first_is_named(auditor: Page, admin: Page, server: Server) -> None:
    server.control(holds=[])
    open_page(auditor, "audit-holds")
    press(auditor, "Set the hold")
    expect(auditor.get_by_role("alert")).to_contain_text("the hold covers nothing")
    auditor.get_by_label("Investigation").check()
    auditor.get_by_label("Subjects, one to a line").fill("case-4471\n case-9\n\n")
    auditor.get_by_label("Questions and answers").check()
    press(auditor, "Set the hold")
    expect(auditor.locator("#said")).to_contain_text("The hold is in force")
    expect(auditor.locator("#holds")).to_contain_text("2 subjects, every record of class exchange")
    press(auditor, "Ask for release")
    dialog = auditor.get_by_role("dialog")
    expect(dialog).to_contain_text("until a second person approves")
    assert axe_findings(auditor) == []
    dialog.get_by_role("button", name="Cancel").click()
    expect(auditor.locator("#holds")).not_to_contain_text("release asked for")
    press(auditor, "Ask for release")
    dialog.get_by_role("button", name="Ask for the release").click()
    expect(auditor.locator("#holds")).to_contain_text("You asked. Somebody else must approve")
    open_page(admin, "audit-holds")
    expect(admin.locator("#holds")).to_contain_text("by a.stone (user:a.stone)")
    press(admin, "Approve the release")
    admin.get_by_role("dialog").get_by_role("button", name="Release the hold").click()
    expect(admin.locator("#said")).to_contain_text("The hold is released")
    expect(admin.locator("#holds")).to_contain_text("No hold is in force")


def test_the_same_person_twice_is_refused_in_the_apis_words(admin: Page, server: Server) -> None:
    open_page(admin, "audit-holds")
    admin.get_by_label("Subjects, one to a line").fill("case-4471")
    press(admin, "Set the hold")
    expect(admin.locator("#holds")).to_contain_text("1 hold in force")
    press(admin, "Ask for release")  # in the meantime the same person asks in another tab
    server.control(ask_release="user:d.reed")
    admin.get_by_role("dialog").get_by_role("button", name="Ask for the release").click()
    expect(admin.get_by_role("alert")).to_contain_text("a second person must approve this")
    server.control(holds=[])


def test_what_is_past_its_time_goes_only_after_its_class_was_typed(admin: Page, auditor: Page, server: Server) -> None:
    server.control(expire=["2020-01", "2020-02"])
    open_page(admin, "audit-retention")
    expect(admin.locator("#due")).to_contain_text("exchange: 2020-01, 2020-02")
    press(admin, "Destroy what is past its time")
    expect(admin.get_by_role("alert")).to_contain_text("nothing was destroyed")
    admin.get_by_label("Type the name of the class").fill("exchange")
    press(admin, "Destroy what is past its time")
    expect(admin.locator("#said")).to_contain_text("exchange 2020-02: 118 records")
    expect(admin.locator("#due")).to_contain_text("Nothing is past its time")
    admin.get_by_label("Months").fill("12")
    press(admin, "Keep it longer")
    admin.get_by_role("dialog").get_by_role("button", name="Keep it longer").click()
    expect(admin.get_by_role("alert")).to_contain_text("cannot be kept for less")
    admin.get_by_label("Months").fill("120")
    press(admin, "Keep it longer")
    admin.get_by_role("dialog").get_by_role("button", name="Keep it longer").click()
    expect(admin.locator("#said")).to_contain_text("Kept longer")
    expect(admin.locator("#retention")).to_contain_text("120")
    open_page(auditor, "audit-retention")
    expect(auditor.locator("#retention")).to_contain_text("120")
    expect(auditor.get_by_role("button", name="Destroy what is past its time")).to_have_count(0)


def test_a_subject_is_shredded_after_it_was_typed_twice_and_a_certificate_is_kept(admin: Page, server: Server) -> None:
    server.control(holds=[], subjects={"case-4471": 3})
    open_page(admin, "audit-erasure")
    admin.get_by_label("Subject", exact=True).fill("case-4471")
    press(admin, "Destroy for good")
    expect(admin.get_by_role("alert")).to_contain_text("not typed the same way twice")
    admin.get_by_label("Type the subject once more").fill("case-4471")
    press(admin, "Destroy for good")
    expect(admin.locator("#certificate")).to_contain_text("Certificate of destruction")
    expect(admin.locator("#erasures tbody tr").first).to_contain_text("shred")
    expect(admin.get_by_label("Subject", exact=True)).to_have_value("")
    name, text = saved_text(admin, admin.get_by_role("button", name="Save certificate").click)
    assert re.fullmatch(r"certificate-\d+\.txt", name)
    assert "Subject: case-4471\nContents destroyed: 3\n" in text and "Copies of the keystore" in text
    assert "Backups that may hold the keys: 2, the last until 2026-12-24\n" in text


def test_an_export_arrives_piece_by_piece_and_a_refused_one_says_why(
    auditor: Page, admin: Page, server: Server, recorder: Recorder
) -> None:
    recorder.expected += ["403"]
    open_page(auditor, "audit-proof")
    auditor.get_by_label("Format").select_option("jsonl")
    auditor.get_by_label("First day (UTC)").fill("2026-11-01")
    name, text = saved_text(auditor, auditor.get_by_role("button", name="Download export").click)
    assert (name, text.count("\n")) == ("audit-export.jsonl", EXPORT_PIECES * 64)
    open_page(admin, "audit-proof")
    press(admin, "Download export")
    expect(admin.get_by_role("alert")).to_contain_text("may not do this")
    admin.get_by_role("link", name="Go back").click()
    expect(admin.locator("#exposure")).to_contain_text("Kept outside this machine")


def test_alarm_and_quarantine_are_said_in_words_on_every_audit_page(auditor: Page, server: Server) -> None:
    problem = {"sink": "witness", "size": 12, "age_s": 400.0, "problem": HOSTILE}
    server.control(exposure=new_exposure() | {"age_s": 400.0, "alarm": True, "anchored_size": 12, "sinks": [problem]})
    open_page(auditor, "audit-proof")
    expect(auditor.locator("#standing [role=alert]")).to_contain_text("Alarm: the newest checkpoint outside")
    expect(auditor.locator("#exposure")).to_contain_text(HOSTILE)
    receipt = "c2sp.org/tlog-proof@v1\nindex 99999\n"
    auditor.get_by_label("Receipt", exact=True).fill(receipt)
    press(auditor, "Check the receipt")
    expect(auditor.locator("#checked")).to_contain_text("This receipt contradicts the log")
    expect(auditor.locator(".quarantine")).to_contain_text("appliance audit recover --declare-loss")
    for name in PAGES:
        open_page(auditor, name)
        expect(auditor.get_by_role("alert").first).to_contain_text("This log is in quarantine")
    assert axe_findings(auditor) == []
    server.control(exposure=new_exposure())
    assert auditor.evaluate("window.pwned") is None


def test_activity_shows_its_gap_in_the_plot_in_words_and_in_the_table(auditor: Page) -> None:
    open_page(auditor, "audit-activity")
    expect(auditor.locator("svg[role=img] rect.gap")).to_have_count(1)
    expect(auditor.locator(".gaps li")).to_have_count(1)
    expect(auditor.locator(".numbers tr.is-gap")).to_have_count(4)
    auditor.get_by_label("7 days").check()
    expect(auditor.locator(".numbers tbody tr")).to_have_count(56)


def test_verification_is_of_what_is_new_or_of_everything(auditor: Page, server: Server) -> None:
    open_page(auditor, "audit-proof")
    for name, looked_at in (("Verify what is new", "new"), ("Verify everything", "everything")):
        press(auditor, name)
        expect(auditor.locator("#verdict")).to_contain_text(f"looked at: {looked_at}")
        expect(auditor.locator("#verdict")).to_contain_text("verdict ok, code 0")
    assert server.control()["audit"]["verified"][-2:] == ["new", "everything"]


def test_the_site_page_shows_protection_and_capacity_to_auditors_and_administrators_only(
    auditor: Page, admin: Page, browser: Browser, server: Server, recorder: Recorder
) -> None:
    for page in (auditor, admin):
        open_page(page, "audit")
        page.get_by_role("link", name="This site").click()
        expect(page.locator("#protection .stats")).to_contain_text("12 days")
        expect(page.locator("#protection")).to_contain_text("What to do: appliance tls create NAME")
        expect(page.locator("#capacity")).to_contain_text("4 people at once at reading speed")
        expect(page.locator("#capacity table tbody tr")).to_have_count(3)
        expect(page.locator("#capacity .nothing-yet")).to_contain_text("appliance doctor --capacity medgemma-4b")
    with new_context(browser, server, recorder) as context:
        user = context.new_page()
        sign_in(user)
        expect(user.get_by_role("link", name="This site")).to_have_count(0)
        user.goto("/app/site")
        expect(user.locator("#protection [role=alert]")).to_contain_text("may not do this")
        expect(user.locator("#capacity [role=alert]")).to_contain_text("may not do this")


def test_an_administrator_sets_what_happens_to_identifiers_beside_how_often_they_are_missed(
    admin: Page, server: Server
) -> None:
    open_page(admin, "identifiers")
    expect(admin.locator("#rules tbody tr")).to_have_count(2)
    expect(admin.locator("#measured")).to_contain_text("Identifiers that are missed")
    expect(admin.locator("#measured .evaluation").first).to_contain_text("1.7 %")
    admin.get_by_label("Workspace", exact=True).fill("icu")
    admin.get_by_label("Block:").check()
    press(admin, "Set this policy")
    dialog = admin.get_by_role("dialog")
    expect(dialog).to_contain_text("holds for everybody in this workspace from the next question on")
    dialog.get_by_role("button", name="Cancel").click()
    expect(admin.locator("#rules tbody tr")).to_have_count(2)
    press(admin, "Set this policy")
    dialog.get_by_role("button", name="Set this policy").click()
    expect(admin.locator("#said")).to_contain_text("icu: block from the next question on.")
    expect(admin.locator("#rules tbody tr").last).to_contain_text("nobody")
    admin.get_by_label("Account", exact=True).fill("nobody.here")
    admin.get_by_label("Into workspace").fill("icu")
    press(admin, "Put them there")
    expect(admin.locator("#problem [role=alert]")).to_contain_text("there is no account nobody.here")
    admin.get_by_label("Account", exact=True).fill("a.stone")
    press(admin, "Put them there")
    expect(admin.locator("#said")).to_contain_text("a.stone works in icu from now on.")
    expect(admin.locator("#rules tbody tr").last).to_contain_text("a.stone")
    assert server.control()["guard"] == {"default": "allow", "cardiology": "mask", "icu": "block"}


def test_an_auditor_sees_every_policy_and_decides_none(auditor: Page) -> None:
    open_page(auditor, "audit")
    auditor.get_by_role("link", name="Identifiers").click()
    expect(auditor.locator("#rules tbody tr").first).to_contain_text("everybody else")
    expect(auditor.get_by_role("button", name="Set this policy")).to_be_hidden()
    expect(auditor.locator(".not-for-admin")).to_contain_text("An administrator sets policies")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_site_without_protection_or_figures_says_what_to_do_about_each(
    browser: Browser, server: Server, recorder: Recorder, scheme: str
) -> None:
    hostile = two_models()
    hostile["data"][0]["capacity"] |= {"device": HOSTILE, "gpu_refused": HOSTILE}
    server.control(protection=unprotected(), capacity=hostile)
    with new_context(browser, server, recorder, color_scheme=scheme) as context:
        page = signed_in_as(context.new_page(), "d.reed")
        open_page(page, "site")
        expect(page.locator("#protection .stats")).to_contain_text("never tried")
        expect(page.locator("#protection .checks .is-warn")).to_have_count(3)
        expect(page.locator("#protection")).to_contain_text("What to do: set backup.folder in config.toml")
        expect(page.locator("#capacity")).to_contain_text(HOSTILE)
        assert page.locator("#capacity img").count() == 0 and page.evaluate("window.pwned") is None
        assert axe_findings(page) == []
    server.control(protection=well_protected(), capacity=two_models())


def test_hostile_values_in_records_and_holds_stay_text(auditor: Page, server: Server) -> None:
    server.control(hostile=HOSTILE)
    open_page(auditor, "audit-search")
    auditor.get_by_label("Any time").check()
    press(auditor, "Search")
    expect(auditor.locator("#records tbody tr").first).to_contain_text(HOSTILE)
    expect(auditor.locator("#progress")).to_contain_text("The search is complete")  # and the table drawn for good
    auditor.locator("[data-narrow=actor]").first.click()
    expect(auditor.locator("#find-actor input")).to_have_value(HOSTILE)
    expect(auditor.locator("#progress")).to_contain_text("1 record found.")
    open_page(auditor, "audit-holds")
    expect(auditor.locator("#holds")).to_contain_text(HOSTILE)
    press(auditor, "Approve the release")
    expect(auditor.get_by_role("dialog")).to_contain_text(HOSTILE)
    assert auditor.locator("#holds img, #records img, dialog img").count() == 0
    assert auditor.evaluate("window.pwned") is None
    server.control(holds=[], drop_hostile=True)


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 1440),
        ("dark", 420),
        pytest.param("dark", 1440, marks=pytest.mark.long),
        pytest.param("light", 420, marks=pytest.mark.long),
    ],
)
def test_every_audit_page_passes_axe_fits_its_width_and_stands_still(
    browser: Browser, server: Server, recorder: Recorder, scheme: str, width: int
) -> None:
    findings: dict[str, object] = {}
    options = {"viewport": {"width": width, "height": 990}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with new_context(browser, server, recorder, **options) as context:
        context.add_init_script(
            "window.moved = 0; new PerformanceObserver(list => { for (const e of list.getEntries())"
            " if (!e.hadRecentInput) window.moved += e.value }).observe({ type: 'layout-shift', buffered: true })"
        )
        page = signed_in_as(context.new_page(), "c.lowe")
        for name in PAGES:
            open_page(page, name)
            expect(page.locator("text=One moment…")).to_have_count(0)
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png", full_page=True)
            if found := axe_findings(page):
                findings[name] = found
            if (overflow := page.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
                findings[f"{name} is wider than the window"] = overflow
            if (moved := page.evaluate("window.moved")) > MOVED_MAX:
                findings[f"{name} moved while it loaded"] = moved
    assert findings == {}
