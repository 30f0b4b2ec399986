// Behaviour of the pages that no component has. Served from this origin; no eval, no inline handlers, no requests
// of its own except "is the page ready yet" and files for the API. Text is read and written as text, never as HTML.
"use strict";
(() => {
  const FILE_BYTES_MAX = 4 * 1024 * 1024;
  const READ_MS_MAX = 30000; // for what was sent to be read: more than any machine is busy for
  const FOLLOW_PX = 320; // whoever scrolled further up is reading there
  const byId = (id) => document.getElementById(id);
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const field = (id) => document.querySelector(`#${id} textarea, #${id} input`);
  const press = (id) => (byId(id)?.matches("button") ? byId(id) : document.querySelector(`#${id} button`))?.click();

  // Gradio learns of a new value from the event that typing would send.
  const fill = (id, text) => {
    const target = field(id);
    if (!target) return;
    target.value = text;
    target.dispatchEvent(new Event("input", { bubbles: true }));
  };

  const announce = (message, isProblem) => {
    let region = byId("announcement");
    if (!region) {
      region = document.createElement("div");
      region.id = "announcement";
      region.setAttribute("role", "status");
      document.body.append(region);
    }
    region.className = isProblem ? "shown is-problem" : "shown";
    region.textContent = message;
    clearTimeout(announce.timer);
    announce.timer = setTimeout(() => { region.className = ""; region.textContent = ""; }, isProblem ? 9000 : 4000);
  };

  // ---- a session that has ended leads to sign-in, and takes what is on the screen with it
  let leaving = false; // whoever signs out is on the way already, and is told so there
  const leave = () => {
    if (leaving) return;
    leaving = true;
    document.body.replaceChildren();
    location.replace("/login?why=ended");
  };
  addEventListener("submit", (event) => { leaving ||= event.target.matches("form[action='/logout']"); }, true);
  const send = window.fetch.bind(window);
  window.fetch = async (...request) => {
    const response = await send(...request);
    if (response.status === 401) leave();
    if (isEvents(response)) return watched(response);
    // Gradio takes a stream for open until it has read its end, and would look for an answer there.
    const ended = response.headers.get("x-event-stream-ended");
    if (ended && ended === stream?.number) await Promise.race([stream.read, pause(READ_MS_MAX)]);
    return response;
  };
  let stream = null; // of answers, the one that was opened last: its number, and when it has been read to its end
  const isEvents = (response) => response.headers.get("content-type")?.startsWith("text/event-stream");
  // The guard's last word in a stream of events: a line of its own, which no value inside an event can be.
  const SESSION_ENDED = "\n: the session ended\n\n";
  const watched = (response) => {
    const decoder = new TextDecoder();
    let tail = "\n";
    const reading = new TransformStream({
      transform(piece, passed) {
        tail = (tail + decoder.decode(piece, { stream: true })).slice(-SESSION_ENDED.length);
        passed.enqueue(piece);
      },
      flush() { if (tail === SESSION_ENDED) leave(); },
    });
    const passed = response.body.pipeTo(reading.writable).catch(() => { /* its reader is told, on the other side */ });
    // What was read last is taken up by its reader before the next task.
    const read = passed.then(() => pause(0));
    const number = response.headers.get("x-event-stream");
    if (number) stream = { number, read };
    return new Response(reading.readable, response);
  };
  // Going back after signing out must not show the note again.
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  // ---- notes: open, copy, save, all inside the browser
  const openFile = (into, ending, type) => {
    const chooser = document.createElement("input");
    chooser.type = "file";
    chooser.accept = type ? `${ending},${type}` : ending;
    chooser.addEventListener("change", async () => {
      const file = chooser.files[0];
      if (file) await readFile(file, into, ending, type);
    });
    chooser.click();
  };
  const readFile = async (file, into, ending, type) => {
    const named = file.name.toLowerCase().endsWith(ending);
    if (!named && (!type || file.type !== type)) return announce(`${file.name} is not a ${ending} file.`, true);
    if (file.size > FILE_BYTES_MAX) return announce(`${file.name} is larger than ${FILE_BYTES_MAX / 1048576} MiB.`, true);
    let text;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    } catch {
      return announce(`${file.name} is not UTF-8 text. Save it as UTF-8 and open it again.`, true);
    }
    if (text.includes("\u0000")) return announce(`${file.name} holds NUL bytes, so it is not a text file.`, true);
    const limit = field(into)?.maxLength ?? -1;
    if (limit > 0 && text.length > limit) return announce(`${file.name} is longer than ${limit} characters.`, true);
    fill(into, text);
    field(into)?.focus();
    return announce(`${file.name} was read in this browser.`);
  };
  // A table goes to this server as it is, with its encoding; what was found in it comes back and is drawn by the page.
  let table = null; // the file, for as long as this page is open: other columns are looked at in the same file
  const sendTable = async (fields) => {
    announce(`${table.name} is being checked.`);
    const form = new FormData();
    form.append("file", table, table.name);
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    try {
      const answer = await (await fetch("/teaching/tables", { method: "POST", body: form })).text();
      announce("");
      fill("table-several", fields.multi_label ?? "");
      fillAndPress("table-report", answer, "table-show");
    } catch {
      announce(`${table.name} did not arrive. Look whether it is still there and choose it once more.`, true);
    }
  };
  const openTable = () => {
    const chooser = document.createElement("input");
    chooser.type = "file";
    chooser.accept = ".csv,.tsv,.txt,text/csv";
    chooser.addEventListener("change", () => {
      table = chooser.files[0] ?? table;
      if (chooser.files[0]) sendTable({});
    });
    chooser.click();
  };
  document.addEventListener("change", (event) => {
    if (!table || !event.target.matches?.("[data-recheck]")) return;
    const fields = {};
    for (const part of document.querySelectorAll("[data-recheck]")) {
      if (part.type !== "checkbox") fields[part.dataset.recheck] = part.value;
      else if (part.checked) fields[part.dataset.recheck] = "true";
    }
    sendTable(fields);
  });
  // A specialist's file and its signature go to this server together; what became of them is drawn by the page.
  const chosenFiles = { file: null, signature: null };
  const choose = (part, file) => {
    chosenFiles[part] = file;
    byId(`chosen-${part}`).textContent = file?.name ?? "none chosen";
  };
  const chooseFile = (part, ending) => {
    const chooser = document.createElement("input");
    chooser.type = "file";
    chooser.accept = ending;
    chooser.addEventListener("change", () => choose(part, chooser.files[0] ?? null));
    chooser.click();
  };
  const install = async () => {
    const button = byId("install-specialist");
    if (!chosenFiles.file) return announce("Choose the specialist's file first.", true);
    const most = Number(button.dataset.bytesMax);
    for (const file of Object.values(chosenFiles)) {
      if (file?.size > most) return announce(`${file.name} is larger than ${Math.floor(most / 1048576)} MiB.`, true);
    }
    announce(`${chosenFiles.file.name} is being sent and checked.`);
    const form = new FormData();
    for (const [part, file] of Object.entries(chosenFiles)) if (file) form.append(part, file, file.name);
    const reason = byId("install-reason").value.trim();
    if (reason) form.append("reason", reason);
    button.disabled = true;
    try {
      const response = await fetch("/specialists/files", { method: "POST", body: form });
      const answer = await response.text();
      announce("");
      if (response.ok) {
        byId("install-reason").value = "";
        for (const part of Object.keys(chosenFiles)) choose(part, null);
      }
      return fillAndPress("installed", answer, "specialist-installed");
    } catch {
      return announce(`${chosenFiles.file.name} did not arrive. Look whether it is still there and choose it again.`, true);
    } finally {
      button.disabled = false;
    }
  };
  const copy = async () => {
    const source = field("redacted");
    if (!source?.value) return announce("There is no redacted text yet.", true);
    try {
      await navigator.clipboard.writeText(source.value);
    } catch {
      show("redacted");
      source.select(); // without TLS the clipboard is closed to scripts: leave the text selected
      return announce("Press Ctrl+C to copy the selected text.");
    }
    return announce("The redacted text was copied.");
  };
  const download = (text, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const save = () => {
    const text = field("redacted")?.value;
    if (!text) return announce("There is no redacted text yet.", true);
    download(text, "redacted.txt");
    return announce("The redacted text was saved as redacted.txt.");
  };

  // ---- the two views of a result
  const show = (view, moveFocus) => {
    document.body.dataset.view = view;
    for (const tab of document.querySelectorAll("[role=tab][data-view]")) {
      const chosen = tab.dataset.view === view;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen && moveFocus) tab.focus();
    }
  };
  const pressed = {
    "open-file": () => openFile("note", ".txt", "text/plain"),
    "open-proof": () => openFile("proof", ".tlog-proof"),
    "open-table": openTable,
    "open-key": () => openFile("key-pem", ".pem"),
    "choose-file": () => chooseFile("file", ".gguf"),
    "choose-signature": () => chooseFile("signature", ".sig"),
    "install-specialist": install,
    copy,
    save,
  };

  // ---- what cannot be undone is asked once more, in words that came with the page
  const confirmed = new WeakSet();
  const confirmFirst = (button, words, yes) => {
    const dialog = document.createElement("dialog");
    const text = document.createElement("p");
    text.id = "confirm-text";
    text.textContent = words;
    dialog.setAttribute("aria-labelledby", text.id);
    const row = document.createElement("div");
    for (const [label, answer] of [["Cancel", ""], [yes, "yes"]]) {
      const choice = document.createElement("button");
      choice.type = "button";
      choice.textContent = label;
      choice.className = answer ? "act" : "act quiet";
      choice.addEventListener("click", () => dialog.close(answer));
      row.append(choice);
    }
    dialog.append(text, row);
    dialog.addEventListener("close", () => {
      const go = dialog.returnValue === "yes";
      dialog.remove();
      // What was asked about may have been drawn anew, and a button that is no part of the page does nothing.
      if (!button.isConnected) return go && announce("This part of the page has changed meanwhile. Press again.", true);
      button.focus();
      if (go) { confirmed.add(button); button.click(); }
    });
    document.body.append(dialog);
    dialog.showModal();
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button");
    if (!button || confirmed.delete(button)) return;
    const id = button.id || button.parentElement?.id;
    const asks = button.dataset.confirm ? button : id && document.querySelector(`[data-confirm-for="${CSS.escape(id)}"]`);
    if (!asks) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    confirmFirst(button, asks.dataset.confirm ?? asks.textContent, asks.dataset.confirmButton);
  }, true);

  // ---- one line of text that a button needs, asked for in the same kind of dialog
  const askFor = (button) => {
    const dialog = document.createElement("dialog");
    const form = document.createElement("form");
    form.method = "dialog";
    const label = document.createElement("label");
    label.textContent = button.dataset.ask;
    const input = document.createElement("input");
    input.maxLength = 120;
    input.value = button.dataset.given;
    label.append(input);
    const row = document.createElement("div");
    for (const [name, answer] of [["Cancel", ""], ["Save", "yes"]]) {
      const choice = document.createElement("button");
      choice.type = answer ? "submit" : "button";
      choice.value = answer;
      choice.textContent = name;
      choice.className = answer ? "act" : "act quiet";
      if (!answer) choice.addEventListener("click", () => dialog.close(""));
      row.append(choice);
    }
    form.append(label, row);
    dialog.append(form);
    dialog.setAttribute("aria-label", button.dataset.ask);
    dialog.addEventListener("close", () => {
      const go = dialog.returnValue === "yes";
      dialog.remove();
      button.focus();
      if (go) fillAndPress(button.dataset.fill, input.value, button.dataset.press);
    });
    document.body.append(dialog);
    dialog.showModal();
    input.select();
  };
  const copyText = async (source, what) => {
    if (!source) return;
    try {
      await navigator.clipboard.writeText(source.innerText);
      announce(`${what ?? "The answer"} was copied.`);
    } catch {
      getSelection().selectAllChildren(source); // without TLS the clipboard is closed to scripts
      announce("Press Ctrl+C to copy the selected text.");
    }
  };

  // After Gradio has taken over the new value.
  const fillAndPress = (id, value, button) => {
    fill(id, value);
    requestAnimationFrame(() => requestAnimationFrame(() => press(button)));
  };
  let edited; // which message, as the page says it
  let followed = null; // the newest drawing of the answer that is being written
  let awaited = null; // the record or specialist that was asked for by pressing: it gets the focus when it is there
  document.addEventListener("click", (event) => {
    const record = event.target.closest?.("[data-open-record]");
    if (record) {
      awaited = record.dataset.openRecord;
      fillAndPress("record-id", awaited, "open-record");
      return;
    }
    const narrow = event.target.closest?.("[data-narrow]");
    if (narrow) { fillAndPress(`find-${narrow.dataset.narrow}`, narrow.dataset.value, "search-run"); return; }
    const asking = event.target.closest?.("[data-ask]");
    if (asking) { askFor(asking); return; }
    const act = event.target.closest?.("[data-press]");
    if (act?.dataset.press === "specialist-open") awaited = act.dataset.value;
    if (act && !act.matches("select")) { fillAndPress(act.dataset.fill, act.dataset.value, act.dataset.press); return; }
    const copied = event.target.closest?.("[data-copy]");
    if (copied) { copyText(byId(copied.dataset.copy), copied.dataset.copied); return; }
    const saved = event.target.closest?.("[data-save]");
    if (saved) {
      download(byId(saved.dataset.save).textContent, saved.dataset.file);
      announce(`Saved as ${saved.dataset.file}.`);
      return;
    }
    const tab = event.target.closest?.("[role=tab][data-view]");
    if (tab) { show(tab.dataset.view); return; }
    for (const [id, act] of Object.entries(pressed)) {
      if (event.target.closest?.(`#${id}`)) { act(); return; }
    }
  });

  // A list inside our HTML: its value goes where it belongs, and a button is pressed when the page has to look again.
  document.addEventListener("change", (event) => {
    const list = event.target.closest?.("select[data-fill]");
    if (!list) return;
    if (list.dataset.press) fillAndPress(list.dataset.fill, list.value, list.dataset.press);
    else fill(list.dataset.fill, list.value);
  });

  // ---- no way off this site: a link to another origin does nothing
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || link.protocol === "blob:" || new URL(link.href, location.href).origin === location.origin) return;
    event.preventDefault();
    event.stopPropagation();
    announce("Links to other sites are switched off here.", true);
  }, true);

  document.addEventListener("keydown", (event) => {
    if (event.target.matches?.("[role=tab][data-view]") && /^Arrow(Left|Right)$/.test(event.key)) {
      show(event.target.dataset.view === "check" ? "redacted" : "check", true);
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && byId("run")) {
      event.preventDefault();
      press("run");
    } else if (event.altKey && event.code === "KeyN" && field("note")) {
      event.preventDefault();
      field("note").focus();
    }
  });

  // ---- setup: the one-time code comes behind the # of the link and leaves the address bar at once
  const takeToken = () => {
    const code = location.hash.slice(1);
    if (!byId("token") || !code) return;
    byId("token").value = decodeURIComponent(code);
    byId("token").closest(".token").hidden = true;
    history.replaceState(null, "", location.pathname);
    byId("username")?.focus();
  };

  // ---- starting: look every half second whether the page is there
  const waitForPage = () => {
    const waiting = document.querySelector("[data-wait-for]");
    if (!waiting) return;
    const look = async () => {
      try {
        const state = await (await send(waiting.dataset.waitFor, { cache: "no-store" })).json();
        if (state.ready || state.failed) return location.reload();
      } catch { /* the server is restarting: look again */ }
      return setTimeout(look, 500);
    };
    setTimeout(look, 500);
  };

  // ---- accessibility of what Gradio draws
  const repair = () => {
    const main = document.querySelector("gradio-app main");
    if (main && main.id !== "main") { main.id = "main"; main.tabIndex = -1; }
    if (document.querySelector("[data-signed-out]")) leave();
    // Gradio announces the end of a call by the name of a message that it does not have.
    const announced = document.querySelector("gradio-app .sr-only[role=status]")?.firstChild;
    if (announced?.data?.startsWith("common.")) announced.data = "Done";
    const opened = awaited && document.querySelector("#record [data-record], #specialist [data-opened]");
    if (opened && (opened.dataset.record ?? opened.dataset.opened) === awaited) {
      awaited = null;
      opened.querySelector("h2").focus();
    }
    // A message that is to be edited is typed at once; an answer that is being written stays in sight.
    const editing = document.querySelector("[data-editing]")?.dataset.editing;
    if (editing !== edited) {
      edited = editing;
      if (editing !== undefined) field("chat-text")?.focus();
    }
    const live = document.querySelector("[data-live]");
    if (live && live !== followed) {
      const hidden = live.getBoundingClientRect().bottom - innerHeight;
      followed = live;
      if (hidden > 0 && hidden < FOLLOW_PX) scrollBy(0, hidden + 24);
    }
    // What the page shows can be found again by its address.
    const place = document.querySelector("[data-address]")?.dataset.address;
    if (place?.startsWith(`${location.pathname}?`) && place !== location.pathname + location.search) {
      history.replaceState(null, "", place);
    }
    for (const id of ["first-day", "last-day"]) {
      const day = document.querySelector(`#${id} input`);
      if (day && day.type !== "date") day.type = "date";
    }
    for (const tab of document.querySelectorAll("[role=tab][data-view]")) {
      const panel = byId(tab.getAttribute("aria-controls"));
      if (panel && panel.getAttribute("role") !== "tabpanel") {
        panel.setAttribute("role", "tabpanel");
        panel.setAttribute("aria-labelledby", tab.id);
      }
    }
  };

  const start = () => {
    takeToken();
    waitForPage();
    if (!document.body.classList.contains("shell")) return;
    document.querySelector(".shell-nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
    new MutationObserver(repair).observe(document.body, { childList: true, characterData: true, subtree: true });
    repair();
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start); else start();
})();
