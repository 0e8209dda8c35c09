// One key per pair on Label Studio's labelling page: 1/2/3/4 label and submit, Backspace returns to the previous pair (the
// next digit corrects it and returns to the open pair), c and d show the two pictures aligned, g opens the guideline.
// Keys are ignored until both pictures are loaded and the previous label is saved.
(() => {
  const LABELS = { 1: "edited_copy", 2: "hard_negative", 3: "unrelated", 4: "unsure" };
  const PATIENCE_MS = 20000; // a save that takes longer has failed: allow another try
  const POLL_MS = 20;
  const NEXT_MS = 3000; // after a save the button to the next pair appears later than the others
  const VIEWS = { c: ["flip.webp", "Query and reference alternately, aligned"],
                  d: ["difference.jpg", "Difference: black where both are equal, blue: only in the query, orange: only in the reference"] };
  let busy = false;
  let seen = ""; // picture addresses of the previous pair: the ones on screen must differ
  let saves = 0, savesFailed = 0, savesOpen = 0;
  const checks = new Map(); // task id → promise of why this pair cannot be labelled now; "" if it can

  const $ = (selector) => document.querySelector(selector);
  const store = () => window.Htx;
  const task = () => store()?.task?.id;
  const data = () => store()?.task?.dataObj ?? {};
  const pictures = () => [...document.querySelectorAll(".ndec img")];
  // Label Studio fetches the pictures of every pair again and gives each a new blob: address.
  const shown = () => pictures().map((image) => image.src).join(" ");
  const ready = () => {
    const images = pictures();
    return images.length >= 2 && shown() !== seen && images.every((image) => image.complete && image.naturalWidth > 0);
  };
  const usable = (button) => (button && !button.disabled ? button : null);
  const submitButton = () => $("[data-testid=bottombar-submit-button]");
  const updateButton = () => $("[data-testid=bottombar-update-button]");
  const TITLES = { edited_copy: "Edited copy", hard_negative: "Hard negative", unrelated: "Unrelated", unsure: "Unsure" };
  // Projects made by earlier versions of ndec show the label itself.
  const radio = (label) => $(`.ndec input[type=radio]:is([name="${label}"], [name="${TITLES[label]}"])`);
  window.ndecRadio = radio; // for layout.js
  const typing = (target) => target && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) &&
    !/^(radio|checkbox|button)$/.test(target.type));
  const until = async (condition, patience) => {
    const begun = performance.now();
    while (!condition()) {
      if (performance.now() - begun > patience) return false;
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
    return true;
  };

  // Only the responses to Label Studio's own requests show whether a label is saved.
  const send = window.fetch;
  window.fetch = async (...request) => {
    const url = String(request[0]?.url ?? request[0]);
    const method = String(request[1]?.method ?? request[0]?.method ?? "GET").toUpperCase();
    const saving = method !== "GET" && /\/api\/(tasks\/\d+\/annotations|annotations\/\d+)\/?(\?|$)/.test(url);
    if (!saving) return send(...request);
    savesOpen += 1;
    try {
      const answer = await send(...request);
      if (answer.ok) saves += 1; else savesFailed += 1;
      return answer;
    } catch (error) {
      savesFailed += 1;
      throw error;
    } finally {
      savesOpen -= 1;
    }
  };

  const tell = (text) => {
    const box = $("#ndec-tell") ?? document.body.appendChild(Object.assign(document.createElement("div"), { id: "ndec-tell" }));
    box.textContent = text;
    box.hidden = false;
    clearTimeout(box.timer);
    box.timer = setTimeout(() => { box.hidden = true; }, 6000);
  };

  const check = (id = task()) => {
    const { query, reference } = data();
    const look = (url) => send(url).then((answer) =>
      answer.headers.has("X-Ndec-Missing") || answer.status === 404 ? "missing" : answer.ok ? "" : "refused", () => "no connection");
    const told = Promise.all([look(query), look(reference)]).then((found) =>
      found.includes("missing") ? "A picture of this pair is missing. Press Skip, and tell the person who runs the project."
        : found.some(Boolean) ? "The pictures could not be checked, so nothing was saved: press the key again." : "");
    checks.set(id, told);
    return told;
  };
  const obstacle = async () => (await checks.get(task()) === "" ? "" : check()); // the picture may be back

  const save = async (button) => {
    const before = [saves, savesFailed];
    button.click();
    await until(() => saves > before[0] || savesFailed > before[1], PATIENCE_MS);
    return saves > before[0];
  };

  const forward = async () => { // to the open pair: the newest of this session
    const next = () => store()?.canGoNextTask && usable($("[data-testid=next-task]"));
    for (;;) {
      await until(() => ready() && (updateButton() || submitButton()), PATIENCE_MS); // the page is drawn again after a save
      if (!await until(() => submitButton() || next(), NEXT_MS) || submitButton()) return;
      const button = next();
      const [id, left] = [task(), shown()];
      button.click();
      if (!await until(() => task() !== id, PATIENCE_MS)) return;
      seen = left;
    }
  };

  // A choice that is clicked while Label Studio is still loading the annotation looks selected but does not count, and a
  // second click would deselect it. Clicking a different choice in between solves this.
  const choose = async (label, button, isOn) => {
    for (let attempt = 0; attempt < 3; attempt += 1) {
      if (attempt > 0) {
        const other = radio(Object.values(LABELS).find((name) => name !== label));
        other?.click();
        await until(() => other?.checked, 1000);
      }
      if (attempt > 0 || !isOn) radio(label)?.click();
      if (await until(() => radio(label)?.checked && button(), 3000)) return true;
    }
    return false;
  };

  const answer = async (label) => {
    const reason = await obstacle();
    if (reason) return tell(reason);
    const choice = radio(label);
    if (!choice) return;
    const correcting = Boolean(updateButton());
    const button = () => usable(correcting ? updateButton() : submitButton());
    // Clicking a choice that is already selected (draft, pre-label, earlier label) would deselect it.
    const same = choice.checked;
    if (same && correcting && !button()) return forward();
    if (!await choose(label, button, same)) return tell("This label could not be chosen: press the key again.");
    const [id, left] = [task(), shown()];
    if (!await save(button())) return tell("The label was not saved: press the key again.");
    if (correcting) return forward();
    if (await until(() => task() !== id || !pictures().length, PATIENCE_MS)) seen = left; // after the last pair: no task
  };

  const back = async () => {
    const button = usable($("[data-testid=prev-task]"));
    if (!button) return tell("This is the first pair.");
    const [id, left] = [task(), shown()];
    button.click();
    if (await until(() => task() !== id, PATIENCE_MS)) seen = left;
    await until(ready, PATIENCE_MS);
  };

  // The aligned view comes from the image server, where the address of the query ends in /pair/PAIR_ID/query.
  const compareUrl = (file) => {
    const pair = /^(https?:\/\/[^/]+(?:\/key\/[^/]+)?\/pair\/[^/]+)\/query$/.exec(data().query ?? "");
    return pair ? `${pair[1]}/${file}` : null;
  };
  const closeView = () => $("#ndec-view")?.remove();
  const view = (key) => {
    const open = $("#ndec-view")?.dataset.key;
    closeView();
    const [file, title] = VIEWS[key];
    if (open === key || !compareUrl(file)) return;
    const box = Object.assign(document.createElement("div"), { id: "ndec-view" });
    box.dataset.key = key;
    const [caption, image] = [document.createElement("p"), document.createElement("img")];
    caption.textContent = "aligning …";
    image.onload = () => { caption.textContent = `${title}. c alternate · d difference · Esc or a tap closes · 1 2 3 4 label`; };
    image.onerror = () => { caption.textContent = "The pictures could not be aligned: the image server did not answer. Esc or a tap closes."; };
    image.alt = title;
    image.crossOrigin = "anonymous"; // the image server answers pages of Label Studio only
    image.src = compareUrl(file);
    box.append(caption, image);
    box.onclick = closeView;
    document.body.append(box);
  };

  const guideline = () => {
    const origin = /^https?:\/\/[^/]+(?:\/key\/[^/]+)?/.exec(data().query ?? "")?.[0];
    if (origin) window.open(`${origin}/guideline`, "ndec-guideline");
  };

  const ACTIONS = { c: () => view("c"), d: () => view("d"), g: guideline, Escape: closeView };
  const run = async (work) => {
    busy = true;
    document.documentElement.dataset.ndecBusy = "1"; // visible to tests: a key pressed now is ignored
    try { await work(); } finally { busy = false; delete document.documentElement.dataset.ndecBusy; }
    closeView();
  };

  window.addEventListener("keydown", (event) => {
    const mine = event.key in LABELS || event.key === "Backspace" || (event.key in ACTIONS && (event.key !== "Escape" || $("#ndec-view")));
    if (!mine || event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
    if (!$(".ndec") || !(submitButton() || updateButton())) return; // another page: as usual
    event.preventDefault();
    event.stopImmediatePropagation();
    if (event.repeat) return;
    if (event.key in ACTIONS) return ACTIONS[event.key]();
    if (busy || savesOpen || !ready()) return;
    run(event.key === "Backspace" ? back : () => answer(LABELS[event.key]));
  }, true);

  // One line in the free part of the bottom bar lists the other keys; they can be clicked too.
  setInterval(() => {
    const open = $(".ndec") && (submitButton() || updateButton());
    let line = $("#ndec-keys");
    if (!open) { line?.remove(); closeView(); return; }
    if (task() !== undefined && data().query && !checks.has(task())) check();
    if (line) return;
    line = Object.assign(document.createElement("div"), { id: "ndec-keys" });
    const entries = [["⌫", "back", () => !busy && !savesOpen && run(back)], ["c", "compare", ACTIONS.c], ["d", "difference", ACTIONS.d],
                     ["g", "guideline", ACTIONS.g], ["", "skip", () => $("[data-testid=bottombar-skip-button]")?.click()]];
    for (const [key, text, act] of entries) {
      const link = document.createElement("a");
      const cap = document.createElement("b");
      cap.textContent = key;
      if (!key) link.className = "ndec-narrow"; // Label Studio's own button is out of sight there
      link.append(cap, text);
      link.onclick = act;
      line.append(link);
    }
    document.body.append(line);
  }, 200);
})();
