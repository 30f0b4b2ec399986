"""Guaranteed, as a person in a browser meets it: from sign-in to receipt, audit and sign-out everything works by
mouse and by keyboard; nothing is asked of another origin; the content security policy is never touched; no user sees
another's work; hostile text is text; every page passes axe in light and dark; nothing lies on a disk afterwards.

Chromium against a server process over the in-memory API. Every test ends with the recorder's lists empty."""

from __future__ import annotations

import re

import pytest
from browsing import (
    LEAVING,
    SCREENSHOTS,
    Recorder,
    Server,
    axe_findings,
    expect_announced,
    new_context,
    saved_text,
    sign_in,
    start_server,
    stop_server,
)
from fake_api import PASSWORD, SETUP_TOKEN
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.timeout(600)  # of a busy machine: starting Chromium alone can take a minute

NOTE = "Margaret O'Neill, MRN 4471-90823, born 03/14/1931.\nHer daughter Ruth called (555) 014-2277."


def deidentify(page: Page, text: str = NOTE) -> None:
    page.locator("#note textarea").fill(text)
    page.get_by_role("button", name="De-identify", exact=True).click()
    expect(page.locator(".receipt")).to_be_visible()


def clear(page: Page) -> None:
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#note textarea")).to_have_value("")


def go_to_audit(page: Page) -> None:
    page.get_by_role("navigation").get_by_role("link", name="Audit log").click()
    expect(page.locator("#records table")).to_be_visible()


def test_who_comes_while_the_pages_still_start_waits_and_goes_on_by_itself(browser: Browser) -> None:
    server = start_server()
    watching = Recorder(server.url, expected=[*LEAVING, "503"])
    try:
        with new_context(browser, server, watching) as context:
            page = context.new_page()
            sign_in(page)  # shows "One moment" on the way and goes on by itself
    finally:
        stop_server(server)
    assert (watching.foreign, watching.policy, watching.errors) == ([], [], [])


def test_from_sign_in_to_receipt_audit_and_sign_out(page: Page) -> None:
    page.get_by_role("button", name="Use a sample").click()
    expect(page.locator("#note textarea")).to_have_value(re.compile("Discharge summary"))
    page.keyboard.press("Control+Enter")
    expect(page.locator("#marked mark")).to_have_count(15)
    expect(page.locator("#summary")).to_contain_text("Identifiers found")
    expect(page.locator(".counts li").first).to_have_text(re.compile(r"Name\s*5"))
    redacted = page.locator("#redacted textarea")
    expect(redacted).to_have_value(re.compile(r"Patient: \[NAME 1\], MRN \[MRN 1\]"))
    page.get_by_role("button", name="Copy redacted text").click()
    expect_announced(page, "The redacted text was copied.")
    name, text = saved_text(page, page.get_by_role("button", name="Save as .txt").click)
    assert (name, text) == ("redacted.txt", redacted.input_value())

    record_id = page.locator(".receipt code").first.inner_text()
    name, proof = saved_text(page, page.get_by_role("link", name="Download receipt").click)
    assert name == f"receipt-{record_id[:16]}.tlog-proof"
    assert proof.startswith("c2sp.org/tlog-proof@v1")

    go_to_audit(page)
    page.locator("[data-open-record]").first.click()
    expect(page.locator("#record")).to_contain_text(record_id)
    expect(page.locator("#record")).to_contain_text("The content is sealed; your role does not open it.")
    page.get_by_role("button", name="Verify the log").click()
    expect(page.locator(".verdict.is-good")).to_contain_text("The audit log verifies")
    name, note = saved_text(page, page.get_by_role("link", name="Download checkpoint").click)
    assert note.startswith("cloister.local/audit\n") and name.startswith("checkpoint-")

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()  # the page before it says more than one thing
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    page.go_back()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_whoever_signs_out_is_told_so_whatever_the_page_learns_of_its_session_meanwhile(
    page: Page, server: Server, recorder: Recorder
) -> None:
    recorder.expected.append("401")
    form = page.locator("form[action='/logout']")
    form.evaluate("form => form.addEventListener('submit', (event) => event.preventDefault())")  # it is slow to go
    page.get_by_role("button", name="Sign out").click()
    server.control(end_sessions=True)
    theme = "fetch('/app/theme.css', { cache: 'no-store' }).then((answer) => answer.status)"
    page.wait_for_function(f"{theme}.then((status) => status === 401)")
    form.evaluate("form => form.submit()")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")


def test_an_event_is_answered_that_is_sent_before_the_end_of_the_stream_before_it_was_read(
    page: Page, server: Server
) -> None:
    server.control(ends_late_s=2.0)
    record = "no record"
    for _ in range(3):
        deidentify(page)
        expect(page.locator(".receipt")).not_to_contain_text(record)
        record = re.findall("[0-9a-f]{32}", page.locator(".receipt").inner_text())[0]
    server.control(ends_late_s=0.0)


def test_each_style_of_a_shown_result_is_asked_for_and_recorded_anew(page: Page) -> None:
    deidentify(page, "Ruth came.")
    first = page.locator(".receipt code").first.inner_text()
    for style, text in (("Mask", "████ came."), ("Surrogates", "<name> came."), ("Labels", "[NAME 1] came.")):
        page.get_by_label(style).check()
        expect(page.locator("#redacted textarea")).to_have_value(text)
        expect(page.locator(".receipt code").first).not_to_have_text(first)


def test_a_text_file_is_read_in_the_browser_and_a_bad_one_is_refused_by_name(page: Page) -> None:
    def choose(name: str, content: bytes) -> None:
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Open .txt").click()
        chooser.value.set_files({"name": name, "mimeType": "text/plain", "buffer": content})

    note = page.locator("#note textarea")
    choose("note.txt", "Ruth, שלום, é, 👩‍⚕️\n".encode())
    expect(note).to_have_value("Ruth, שלום, é, 👩‍⚕️\n")
    for name, content, words in (
        ("latin.txt", b"caf\xe9", "is not UTF-8 text"),
        ("nul.txt", b"a\0b", "holds NUL bytes"),
        ("long.txt", b"x" * 20_001, "is longer than 20000 characters"),
        ("huge.txt", b"x" * (4 * 1024 * 1024 + 1), "is larger than 4 MiB"),
    ):
        choose(name, content)
        expect_announced(page, f"{name} {words}")
    expect(note).to_have_value("Ruth, שלום, é, 👩‍⚕️\n")


def test_a_refusal_is_shown_in_the_apis_words_and_no_old_result_stays(page: Page, server: Server) -> None:
    deidentify(page)
    server.control(audit_down=True)
    page.get_by_role("button", name="De-identify", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("the answer could not be recorded, so it was not released")
    expect(page.locator("#marked mark")).to_have_count(0)
    expect(page.locator("#redacted textarea")).to_have_value("")
    expect(page.locator(".receipt")).to_have_count(0)
    server.control(audit_down=False)
    clear(page)
    page.get_by_role("button", name="De-identify", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("paste or type a note")


HOSTILE = (
    "<script>window.pwned=1</script> <img src=x onerror=window.pwned=2> **bold** [x](http://evil.test/a) "
    "![i](http://evil.test/i.png) <http://evil.test> $$\\frac{1}{2}$$ `code` www.evil.test\n\n    indented\n# head\n"
    "- list\n\n<details open ontoggle=window.pwned=3><iframe src=//evil.test></iframe>\n```mermaid\ngraph TD\n```\n"
    'שלום Margaret مرحبا __i18n__{"key":"common.submit"} &amp; &#60;b&#62; </div></mark>' + "w" * 3000 + " Ruth"
)


def test_hostile_text_stays_text_on_both_pages(page: Page) -> None:
    deidentify(page, f"{HOSTILE} \u202edesrever\u202c")
    shown = page.locator(".marked").evaluate(
        "e => { const c = e.cloneNode(true); c.querySelectorAll('.kind').forEach(k => k.remove());"
        " return c.textContent }"
    )
    assert shown == f"{HOSTILE} \u27e8U+202E\u27e9desrever\u27e8U+202C\u27e9"
    names = page.locator(".marked").evaluate("e => [...new Set([...e.querySelectorAll('*')].map(n => n.tagName))]")
    assert sorted(names) == ["MARK", "SPAN"]
    assert page.evaluate("window.pwned") is None
    go_to_audit(page)
    page.get_by_label("Record id").fill("<img src=x onerror=window.pwned=4>")
    page.get_by_role("button", name="Open", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("there is no record with that id")
    assert page.evaluate("window.pwned") is None


def test_two_users_cannot_see_each_other(browser: Browser, page: Page, server: Server, recorder: Recorder) -> None:
    recorder.expected += ["403", "404"]
    deidentify(page)
    record_id = page.locator(".receipt code").first.inner_text()
    joined = next(url for url in recorder.urls if "queue/data" in url)
    with new_context(browser, server, recorder) as context:
        other = context.new_page()
        sign_in(other, "b.other")
        get = "async url => { const r = await fetch(url); return [r.status, await r.text()] }"
        status, body = other.evaluate(get, joined)
        assert status == 403 and "Margaret" not in body
        status, body = other.evaluate(get, f"/receipts/{record_id}")
        assert status == 404 and "tlog-proof" not in body
        other.goto("/app/audit")
        expect(other.locator("#records")).to_contain_text("There is no record here that you may see")
        other.get_by_label("Record id").fill(record_id)
        other.get_by_role("button", name="Open", exact=True).click()
        expect(other.get_by_role("alert")).to_contain_text("there is no record with that id")


def test_an_auditor_opens_content_and_is_not_led_to_a_closed_door(
    browser: Browser, page: Page, server: Server, recorder: Recorder
) -> None:
    deidentify(page, "Ruth <b>came</b>.")
    record_id = page.locator(".receipt code").first.inner_text()
    with new_context(browser, server, recorder) as context:
        auditor = context.new_page()
        sign_in(auditor, "a.stone")
        expect(auditor.get_by_role("navigation").get_by_role("link")).to_have_text(
            [
                "Specialists",
                "Audit log",
                "Search",
                "Activity",
                "Proof and export",
                "Identifiers",
                "This site",
                "Legal holds",
                "Retention",
                "Erasure",
            ]
        )
        auditor.get_by_label("Record id").fill(record_id)
        auditor.keyboard.press("Enter")
        expect(auditor.locator("#record .content")).to_have_text("Ruth <b>came</b>.")


def test_records_are_turned_page_by_page(page: Page) -> None:
    go_to_audit(page)
    numbers, older, newer = page.locator("[data-open-record]"), page.locator("#older"), page.locator("#newer")
    expect(newer).to_be_disabled()
    first = numbers.first.inner_text()
    expect(numbers).to_have_count(25)
    older.click()
    expect(page.locator("#records caption")).to_contain_text("page 2")
    expect(numbers.first).to_have_text(str(int(first) - 25))
    newer.click()
    expect(numbers.first).to_have_text(first)
    expect(newer).to_be_disabled()


def test_a_log_that_does_not_verify_is_said_so_plainly(page: Page, server: Server) -> None:
    go_to_audit(page)
    server.control(tampered=True)
    page.get_by_role("button", name="Verify the log").click()
    expect(page.get_by_role("alert")).to_contain_text("The audit log does NOT verify")
    expect(page.get_by_role("alert")).to_contain_text("first bad record 1")
    assert axe_findings(page) == []
    server.control(tampered=False)


def test_a_session_that_ended_leads_to_sign_in_and_leaves_no_text_behind(
    page: Page, server: Server, recorder: Recorder
) -> None:
    recorder.expected += ["401", "Could not resolve app config", "network"]
    deidentify(page)
    server.control(end_sessions=True)
    page.get_by_role("button", name="De-identify", exact=True).click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("Your session has ended")


def test_the_one_time_code_of_the_setup_link_is_in_no_address_that_is_sent(
    browser: Browser, server: Server, recorder: Recorder
) -> None:
    with new_context(browser, server, recorder) as context:
        page = context.new_page()
        page.goto(f"/setup#{SETUP_TOKEN}")
        expect(page.get_by_label("User name")).to_be_focused()
        expect(page).to_have_url(f"{server.url}/setup")
        page.get_by_label("User name").fill("chief")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Password, once more").fill(PASSWORD)
        page.get_by_role("button", name="Create account").click()
        expect(page.locator("#note textarea")).to_be_visible()
    assert not [url for url in recorder.urls if SETUP_TOKEN in url.partition("#")[0]]
    server.control(setup_open=True)


def test_everything_can_be_reached_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Alt+n")
    expect(page.locator("#note textarea")).to_be_focused()
    expect(page.locator("#note textarea")).to_have_css("outline-style", "solid")  # Gradio shows no focus on fields
    page.keyboard.type("Ruth came.")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".receipt")).to_be_visible()
    page.get_by_role("tab", name="Check").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Redacted text")).to_be_focused()
    expect(page.locator("#redacted textarea")).to_be_visible()
    expect(page.locator("#marked")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 420])
def test_every_page_passes_axe_and_fits_its_width(
    browser: Browser, server: Server, recorder: Recorder, scheme: str, width: int
) -> None:
    findings: dict[str, object] = {}
    viewport = {"width": width, "height": 990}
    with new_context(browser, server, recorder, viewport=viewport, color_scheme=scheme) as context:
        page = context.new_page()

        def check(name: str) -> None:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png")
            overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if found := axe_findings(page):
                findings[name] = found
            if overflow > 0:
                findings[f"{name} is wider than the window"] = overflow

        page.goto(f"/setup#{SETUP_TOKEN}")
        check("setup")
        page.goto("/login")
        check("sign-in")
        sign_in(page)
        check("empty")
        page.get_by_role("button", name="Use a sample").click()
        expect(page.locator("#note textarea")).to_have_value(re.compile("Discharge"))
        page.keyboard.press("Control+Enter")
        expect(page.locator(".receipt")).to_be_visible()
        check("result")
        page.get_by_role("tab", name="Redacted text").click()
        check("redacted")
        clear(page)
        page.get_by_role("button", name="De-identify", exact=True).click()
        expect(page.get_by_role("alert")).to_be_visible()
        check("refused")
        go_to_audit(page)
        page.locator("[data-open-record]").first.click()
        expect(page.locator("#record h2")).to_be_visible()
        page.get_by_role("button", name="Verify the log").click()
        expect(page.locator(".verdict")).to_be_visible()
        check("audit")
    assert findings == {}


def test_a_cold_page_stays_within_its_budget(browser: Browser, server: Server, recorder: Recorder) -> None:
    with new_context(browser, server, recorder) as context:
        page = context.new_page()
        received: list[int] = []
        wire = context.new_cdp_session(page)
        wire.send("Network.enable")
        wire.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
        sign_in(page)
    assert len(recorder.urls) <= 70
    assert sum(received) <= 450_000
