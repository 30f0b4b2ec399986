"""Guaranteed, as people meet it in a browser: a specialist is chosen by what is known about it, tried and compared on
one text; versions change state by those who may, with a second person, and a refusal is shown in the API's words; a
table is checked, taught from and submitted; hostile names stay text; both pages pass axe and fit in both themes.

Chromium against a server process over the in-memory API. Every test ends with the recorder's lists empty."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browsing import SCREENSHOTS, Recorder, Server, axe_findings, expect_announced, new_context, saved_text, sign_in
from fake_specialists import card
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.timeout(600)  # of a busy machine: starting Chromium alone can take a minute

HOSTILE = '<img src=x onerror=window.pwned=1> **b** [x](http://evil.test/) " onclick="window.pwned=2" </button></li>'
ROWS = "text,label\n" + "".join(f"invoice {n} is wrong,billing\nwhere is parcel {n},delivery\n" for n in range(20))
DOSE = "Take 40 mg a day."
LEAVING = ["AbortError", "network error", "Connection errored out"]


@pytest.fixture(autouse=True)
def calm(recorder: Recorder) -> None:
    recorder.expected += LEAVING


@pytest.fixture
def admin(browser: Browser, server: Server, recorder: Recorder) -> Iterator[Page]:
    with new_context(browser, server, recorder) as context:
        page = context.new_page()
        sign_in(page, "c.lowe")
        yield page


def open_specialist(page: Page, specialist: str, title: str) -> None:
    page.goto(f"/app/specialists?specialist={specialist}")
    expect(page.locator("#specialist h2")).to_have_text(title)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def upload(page: Page, content: str) -> None:
    with page.expect_file_chooser() as chooser:
        press(page, "Choose a CSV file")
    chooser.value.set_files({"name": "tickets.csv", "mimeType": "text/csv", "buffer": content.encode()})


def test_a_specialist_is_opened_by_keyboard_tried_and_compared_on_the_same_text(page: Page, server: Server) -> None:
    page.get_by_role("link", name="Specialists").click()
    cards = page.locator(".specialist-cards > li")
    expect(cards).to_have_count(5)
    expect(cards.first).to_contain_text("98.3 % Recall")
    expect(cards.first).to_contain_text("on 318 items: the tenth")
    expect(cards.first).to_contain_text("1.1.0, since 24 Nov 2026")
    page.get_by_role("button", name="Open Chemicals and diseases").press("Enter")
    expect(page.locator("#specialist h2")).to_be_focused()
    expect(page.locator("#specialist")).to_contain_text("97.9 to 98.7")
    expect(page.locator("#specialist")).to_contain_text("How well requests find it")
    page.get_by_text("Who was chosen for which requests").click()
    expect(page.locator("#specialist .matrix tbody tr")).to_have_count(2)
    expect(page.get_by_role("button", name="Make version 1.0.0 active")).to_have_count(0)  # a user decides nothing
    page.get_by_label("Compare with").select_option("phi-deid")
    page.get_by_label("Text", exact=True).fill("Margaret took aspirin.")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".difference")).to_have_text(
        "0 passages were marked by both, 1 only by the first, 1 only by the second."
    )
    expect(page.locator(".result mark")).to_have_text(["aspirinChemical", "MargaretName"])
    assert sorted(one["specialist"] for one in server.control()["asked"]) == ["biomed-ner", "phi-deid"]
    page.get_by_label("Specialist", exact=True).select_option("doc-answer")
    page.get_by_label("Question", exact=True).fill("Which dose?")
    page.get_by_label("Text to answer from").fill(DOSE)
    press(page, "Try it")
    expect(page.locator(".result blockquote")).to_have_text("40 mg")
    asked = {"specialist": "doc-answer", "question": "Which dose?", "context": DOSE}
    assert asked in server.control()["asked"]
    page.get_by_label("Compare with").select_option("")
    page.get_by_label("Specialist", exact=True).select_option("fin-sentiment")
    page.get_by_label("Entity (optional)").fill("Contoso")
    page.get_by_label("Text", exact=True).fill("weather")
    press(page, "Try it")
    expect(page.locator(".abstained")).to_contain_text("It abstains. No label is likely enough: the best has 31.0 %")
    assert server.control()["asked"][-1] == {"specialist": "fin-sentiment", "text": "weather", "entity": "Contoso"}


def test_a_text_finds_its_specialist_with_the_reason_or_is_told_what_to_do(page: Page, server: Server) -> None:
    page.goto("/app/ask")
    text = page.get_by_label("Text", exact=True)
    expect(page.get_by_label("Specialist", exact=True)).to_have_value("auto")
    text.fill("my card is lost")
    press(page, "Ask")
    expect(page.locator("#routed-title")).to_have_text("Banking questions was chosen, 94.0 % sure")
    expect(page.locator(".near")).to_contain_text("“<i>my card</i> is lost” bank-intent, 81.0 % alike")
    expect(page.locator(".result .said")).to_have_text("Card arrival")
    assert axe_findings(page) == []
    text.fill("sing me a song")
    press(page, "Ask")
    expect(page.locator("#routed-title")).to_have_text("No specialist was chosen")
    expect(page.locator(".abstained")).to_contain_text("choose a specialist from the list")
    expect(page.locator(".result")).to_have_count(0)
    page.goto("/app/ask?specialist=biomed-ner")
    text.fill("aspirin")
    press(page, "Ask")
    expect(page.locator(".result mark")).to_have_text(["aspirinChemical"])
    assert server.control()["asked"][-1] == {"specialist": "biomed-ner", "text": "aspirin"}


def test_a_version_is_approved_by_another_person_made_active_and_rolled_back(admin: Page, server: Server) -> None:
    server.control(add_version=["bank-intent", "1.2.0", "user:c.lowe"])
    open_specialist(admin, "bank-intent", "Banking questions")
    newest = admin.locator(".versions li").first
    expect(newest).to_contain_text("You installed it. Somebody else must approve")
    server.control(add_version=["bank-intent", "1.3.0", "user:d.reed"])
    open_specialist(admin, "bank-intent", "Banking questions")
    press(admin, "Approve version 1.3.0")
    admin.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(newest).to_contain_text("Approved")
    press(admin, "Make version 1.3.0 active")
    admin.get_by_role("dialog").get_by_role("button", name="Make active").click()
    expect(admin.locator("#said")).to_contain_text("bank-intent 1.3.0 answers from now on")
    expect(admin.locator("#specialist")).to_contain_text("1.3.0, bank-intent")
    press(admin, "Roll back")
    admin.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(admin.locator("#said")).to_contain_text("answers again")
    server.control(add_version=["bank-intent", "1.4.0", "user:d.reed"])
    open_specialist(admin, "bank-intent", "Banking questions")
    press(admin, "Approve version 1.4.0")  # in the meantime it turns out who installed it
    server.control(installed_by=["bank-intent", "user:c.lowe"])
    admin.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(admin.get_by_role("alert")).to_contain_text("by another person than who installed it")


def choose(page: Page, name: str, file: str, content: str) -> None:
    with page.expect_file_chooser() as chooser:
        press(page, name)
    chooser.value.set_files({"name": file, "mimeType": "application/octet-stream", "buffer": content.encode()})


def test_a_file_is_installed_and_downloaded_with_its_signature_and_a_key_trusted(
    admin: Page, recorder: Recorder
) -> None:
    recorder.expected += ["409"]
    admin.goto("/app/specialists")
    expect(admin.locator(".specialist-cards > li").first).to_be_visible()
    press(admin, "Install")
    expect_announced(admin, "Choose the specialist's file first")
    choose(admin, "Choose the file", "triage.gguf", "ward-triage 2.0.0")
    expect(admin.locator("#chosen-file")).to_have_text("triage.gguf")
    press(admin, "Install")
    expect(admin.get_by_role("alert")).to_contain_text("the file is not signed")
    choose(admin, "Choose its signature", "triage.gguf.sig", "signature")
    press(admin, "Install")
    expect(admin.locator("#install-said")).to_contain_text("ward-triage 2.0.0 is here and answers nobody yet")
    expect(admin.locator("#chosen-file")).to_have_text("none chosen")
    expect(admin.locator("#cards .findings")).to_contain_text("ward-triage 2.0.0")
    open_specialist(admin, "bank-intent", "Banking questions")
    link = admin.get_by_role("link", name="Download version 1.0.0 with its signature")
    assert saved_text(admin, link.click) == ("bank-intent-1.0.0.zip", "PK bank-intent-1.0.0")
    expect(admin.locator("#trusted-keys")).to_contain_text("No key is trusted yet")
    admin.get_by_label("Name of the key").fill("st-brigid")
    press(admin, "Trust this key")
    expect(admin.locator("#keys-said [role=alert]")).to_contain_text("no public key in PEM")
    choose(admin, "Open .pem", "key.pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    expect(admin.get_by_label("Public key (PEM)")).to_have_value(re.compile("AAAA"))
    press(admin, "Trust this key")
    expect(admin.locator("#keys-said")).to_contain_text("Signatures of st-brigid count from now on")
    expect(admin.locator("#trusted-keys h3")).to_have_text("st-brigid")
    assert axe_findings(admin) == []
    press(admin, "Trust st-brigid no more")
    admin.get_by_role("dialog").get_by_role("button", name="Trust it no more").click()
    expect(admin.locator("#trusted-keys")).to_contain_text("No key is trusted yet")
    expect(admin.locator("#keys-said")).to_contain_text("Signatures of st-brigid count no more")


def test_a_table_is_checked_taught_from_and_submitted_for_approval(page: Page, recorder: Recorder) -> None:
    recorder.expected += ["400"]
    page.get_by_role("link", name="Teach").click()
    start = page.get_by_role("button", name="Train it")
    expect(start).to_be_disabled()
    upload(page, "only one column\nx\n")
    expect(page.get_by_role("alert")).to_contain_text("it needs a column of texts and one of labels")
    upload(page, "text,label\na,same\nb,same\n")
    expect(page.locator("#checked")).to_contain_text("nothing can be told apart")
    expect(start).to_be_disabled()
    upload(page, f'note,urgent,kind\n"{HOSTILE.replace(chr(34), chr(34) * 2)}",yes,odd\n' + "a,no,b\nc,no,b\n")
    expect(page.locator("#checked h2")).to_have_text("3 rows, 2 labels")
    expect(page.get_by_label("Column with the label")).to_have_value("kind")
    page.get_by_label("Column with the label").select_option("urgent")  # the same file, looked at once more
    expect(page.locator("#checked .bars li").first).to_contain_text("no")
    expect(page.get_by_label("Column with the label")).to_have_value("urgent")
    expect(start).to_be_enabled()
    start.click()
    expect(page.get_by_role("alert")).to_contain_text("the specialist has no name")
    page.get_by_label("Name that people see").fill("Ticket router (2026)")
    start.click()
    expect(page.locator("#teach-report h2")).to_have_text("How good it is, on 60 rows it had not seen")
    expect(page.locator(".matrix tbody tr").first).to_contain_text("38")
    expect(page.locator("#teach-report .plain-frame .figures tbody tr").first).to_contain_text("<b>delivery</b>")
    page.reload()
    expect(page.locator("#teach-report h2")).to_contain_text("How good it is")
    press(page, "Ask for approval")
    expect(page.locator("#teach-report")).to_contain_text("ticket-router-2026 1.0.0 is stored and answers nobody yet")
    page.get_by_role("link", name="its page").click()
    expect(page.locator(".versions")).to_contain_text("Waiting for approval")
    expect(page.locator("#specialist h2")).to_have_text("ticket-router-2026")
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 420)])
def test_both_pages_pass_axe_fit_and_keep_hostile_values_as_text(
    browser: Browser, server: Server, recorder: Recorder, scheme: str, width: int
) -> None:
    server.control(rename=["phi-deid", HOSTILE])
    findings: dict[str, object] = {}
    options = {"viewport": {"width": width, "height": 990}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with new_context(browser, server, recorder, **options) as context:
        page = context.new_page()

        def check(name: str) -> None:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png", full_page=True)
            if found := axe_findings(page):
                findings[name] = found
            if (overflow := page.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
                findings[f"{name} is wider than the window"] = overflow

        sign_in(page, "c.lowe")
        open_specialist(page, "phi-deid", HOSTILE)
        expect(page.locator("#trusted-keys")).to_contain_text("No key is trusted yet")
        check("specialists-admin")
        page.get_by_role("button", name="Sign out").click()
        expect(page.locator("[role=status]", has_text="You are signed out.")).to_be_visible()
        sign_in(page)
        open_specialist(page, "phi-deid", HOSTILE)
        expect(page.locator("#install-specialist")).to_be_hidden()
        expect(page.locator(".specialist-cards h2").first).to_have_text(HOSTILE)
        page.get_by_label("Compare with").select_option("fin-sentiment")
        page.get_by_label("Text", exact=True).fill("Ruth came.")
        press(page, "Try it")
        expect(page.locator(".result")).to_have_count(2)
        check("specialists")
        page.goto("/app/teach")
        upload(page, ROWS)
        page.get_by_label("Name that people see").fill("Tickets")
        press(page, "Train it")
        expect(page.locator(".matrix")).to_be_visible()
        check("teach")
        assert page.evaluate("window.pwned") is None
    server.control(rename=["phi-deid", card("x", "Clinical de-identifier", "tag")["name"]])
    assert findings == {}
