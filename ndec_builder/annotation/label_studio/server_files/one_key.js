// Label Studio's labelling page, one key a pair: 1/2/3/4 label and submit, Backspace returns to the pair before (the
// next digit corrects it and leads back to the open pair), c and d show the two pictures aligned, g opens the guideline.
// Keys wait until both pictures are there (nobody can have judged them before) and until the label before is saved.
(() => {
  const LABELS = { 1: "edited_copy", 2: "hard_negative", 3: "unrelated", 4: "unsure" };
  const PATIENCE_MS = 20000; // a save that takes longer has failed: let the person try again
  const POLL_MS = 20;
  const NEXT_MS = 3000; // after a save the way to the next pair opens a moment later than the buttons
  const VIEWS = { c: ["flip.webp", "Query and reference in turns, laid over each other"],
                  d: ["difference.jpg", "Difference: black where both are equal"] };
  let busy = false;
  let seen = ""; // addresses of the pictures of the pair that was left: those on screen must be others
  let saves = 0, savesFailed = 0, savesOpen = 0;
  const missing = new Map(); // task id → promise of "a picture of this pair is missing"

  const $ = (selector) => document.querySelector(selector);
  const store = () => window.Htx;
  const task = () => store()?.task?.id;
  const data = () => store()?.task?.dataObj ?? {};
  const pictures = () => [...document.querySelectorAll(".ndec img")];
  // Label Studio fetches each picture anew for each pair and gives it a fresh blob: address.
  const shown = () => pictures().map((image) => image.src).join(" ");
  const ready = () => {
    const images = pictures();
    return images.length >= 2 && shown() !== seen && images.every((image) => image.complete && image.naturalWidth > 0);
  };
  const usable = (button) => (button && !button.disabled ? button : null);
  const submitButton = () => $("[data-testid=bottombar-submit-button]");
  const updateButton = () => $("[data-testid=bottombar-update-button]");
  const radio = (label) => $(`.ndec input[type=radio][name="${label}"]`);
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

  // Only the answers to Label Studio's own requests tell whether a label is saved.
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

  const isMissing = () => {
    const { query, reference } = data();
    const id = task();
    if (!missing.has(id)) {
      const look = (url) => send(url, { method: "HEAD" }).then((answer) => !answer.ok || answer.headers.has("X-Ndec-Missing"), () => true);
      missing.set(id, Promise.all([look(query), look(reference)]).then((found) => found.some(Boolean)));
    }
    return missing.get(id);
  };

  const save = async (button) => {
    const before = [saves, savesFailed];
    button.click();
    await until(() => saves > before[0] || savesFailed > before[1], PATIENCE_MS);
    return saves > before[0];
  };

  const forward = async () => { // to the open pair: the newest of this sitting
    const next = () => store()?.canGoNextTask && usable($("[data-testid=next-task]"));
    for (;;) {
      await until(() => ready() && (updateButton() || submitButton()), PATIENCE_MS); // the page is drawn anew after a save
      if (!await until(() => submitButton() || next(), NEXT_MS) || submitButton()) return;
      const button = next();
      const [id, left] = [task(), shown()];
      button.click();
      if (!await until(() => task() !== id, PATIENCE_MS)) return;
      seen = left;
    }
  };

  // A choice that is clicked while Label Studio still loads the annotation shows as on, but does not count, and a second
  // click would switch it off: then another one is clicked in between.
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
    if (await isMissing()) return tell("A picture of this pair is missing. Press Skip, and tell whoever runs the project.");
    const choice = radio(label);
    if (!choice) return;
    const correcting = Boolean(updateButton());
    const button = () => usable(correcting ? updateButton() : submitButton());
    // A choice that is on already (draft, pre-label, label made before) must not be clicked: that switches it off.
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
    if (!button) return tell("There is no pair before this one.");
    const [id, left] = [task(), shown()];
    button.click();
    if (await until(() => task() !== id, PATIENCE_MS)) seen = left;
    await until(ready, PATIENCE_MS);
  };

  // The third picture, from the image server: the address of the query ends in /pair/PAIR_ID/query there.
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
    image.onload = () => { caption.textContent = `${title}. c turns · d difference · Esc closes · 1 2 3 4 label`; };
    image.onerror = () => { caption.textContent = "The pictures could not be aligned: the image server did not answer. Esc closes."; };
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
    document.documentElement.dataset.ndecBusy = "1"; // to be seen from outside: a key pressed now is ignored
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

  // One line in the free part of the bottom bar says which keys there are; they can be clicked too.
  const style = document.createElement("style");
  style.textContent = `
    #ndec-keys { position: fixed; left: 330px; bottom: 14px; z-index: 500; font: 14px/20px sans-serif; color: #555; }
    #ndec-keys a { margin-right: 18px; cursor: pointer; color: inherit; }
    #ndec-keys b { border: 1px solid #aaa; border-radius: 4px; padding: 0 6px; margin-right: 5px; font-weight: 600; }
    #ndec-tell { position: fixed; left: 50%; top: 40%; transform: translateX(-50%); z-index: 1200; background: #7a1f1f;
      color: #fff; font: 18px/26px sans-serif; padding: 14px 22px; border-radius: 8px; }
    #ndec-view { position: fixed; inset: 48px 0 56px 0; z-index: 1000; background: #222; display: flex; flex-direction: column;
      align-items: center; }
    #ndec-view p { color: #eee; font: 15px/32px sans-serif; margin: 0; }
    #ndec-view img { flex: 1; min-height: 0; max-width: 100%; object-fit: contain; }`;
  document.head.append(style);
  setInterval(() => {
    const there = $(".ndec") && (submitButton() || updateButton());
    let line = $("#ndec-keys");
    if (!there) { line?.remove(); closeView(); return; }
    if (task() !== undefined && data().query) isMissing();
    if (line) return;
    line = Object.assign(document.createElement("div"), { id: "ndec-keys" });
    const entries = [["⌫", "back", () => !busy && !savesOpen && run(back)], ["c", "compare aligned", ACTIONS.c], ["d", "difference", ACTIONS.d],
                     ["g", "guideline", ACTIONS.g]];
    for (const [key, text, act] of entries) {
      const link = document.createElement("a");
      const cap = document.createElement("b");
      cap.textContent = key;
      link.append(cap, text);
      link.onclick = act;
      line.append(link);
    }
    document.body.append(line);
  }, 200);
})();
