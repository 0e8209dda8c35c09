// Layout of the labelling page: arranges the two pictures, shows the position in the queue, adds touch buttons, alt texts
// and help on the login page. Keys and saving are in one_key.js; the buttons here send it the same key events.
(() => {
  const NARROW_PX = 900; // below: one column, see layout.css
  const LABELS = [["1", "edited_copy", "Edited copy"], ["2", "hard_negative", "Hard negative"],
                  ["3", "unrelated", "Unrelated"], ["4", "unsure", "Unsure"]];
  const TOOLBAR_PX = 50; // Label Studio's zoom buttons next to each picture
  const TITLE_PX = 28; // the word QUERY or REFERENCE above each picture
  const BOTTOM_PX = 58;
  const $ = (selector) => document.querySelector(selector);
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const press = (key) => window.dispatchEvent(new KeyboardEvent("keydown", { key }));
  const pictures = () => [...document.querySelectorAll(".ndec img")];

  // Whichever arrangement shows the smaller of the two pictures larger.
  const arrange = () => {
    const row = $(".ndec .ndec-row");
    const images = pictures();
    if (!row || images.length < 2 || images.some((image) => !image.naturalWidth)) return;
    const [width, narrow] = [row.clientWidth, window.innerWidth < NARROW_PX];
    const bottom = narrow ? 44 + ($("#ndec-buttons")?.offsetHeight ?? 0) : BOTTOM_PX;
    const height = window.innerHeight - row.getBoundingClientRect().top - (row.closest(".ndec").parentElement?.scrollTop ?? 0) - bottom;
    const size = (cellWidth, cellHeight) => Math.min(...images.map((image) => {
      const scale = Math.min(cellWidth / image.naturalWidth, cellHeight / image.naturalHeight);
      return image.naturalWidth * image.naturalHeight * scale * scale;
    }));
    const heights = { sideBySide: height - TITLE_PX, stacked: height / 2 - TITLE_PX };
    const stacked = narrow || size(width - TOOLBAR_PX, heights.stacked) > size(width / 2 - TOOLBAR_PX, heights.sideBySide);
    const chosen = `${Math.max(Math.round(stacked ? heights.stacked : heights.sideBySide), 120)}px`;
    if (row.classList.contains("ndec-stacked") === stacked && row.style.getPropertyValue("--ndec-picture-height") === chosen) return;
    row.classList.toggle("ndec-stacked", stacked);
    row.style.setProperty("--ndec-picture-height", chosen);
    window.dispatchEvent(new Event("resize")); // Label Studio draws the pictures at their new size
  };

  // Label Studio keeps the zoom of a picture when its frame changes. A picture smaller than its frame was enlarged to fill
  // the first one, so its edges would be cut off: fit it again, unless the annotator has zoomed since.
  const fitted = new WeakMap(); // Label Studio's image → the frame that it was fitted to
  const showWholePictures = () => {
    for (const image of window.Htx?.annotationStore?.selected?.objects ?? []) {
      const frame = `${image.containerWidth} ${image.containerHeight} ${image.naturalWidth}`;
      if (image.type !== "image" || !image.naturalWidth || fitted.get(image) === frame) continue;
      image.sizeToFit();
      fitted.set(image, frame);
    }
  };

  // Label Studio counts each step forward, so its own position of the open pair grows with every correction. It is right
  // when a project is opened: the first account continues its count, others begin at 1 of the pairs that are left.
  let visit; // Label Studio's store: a new one whenever a project is opened
  let first; // place of the pair that was open then
  let places; // task id → place in the queue; null: a pair of an earlier visit
  const showPosition = (line) => {
    const { task, taskHistory, queuePosition, queueTotal: total } = window.Htx ?? {};
    if (!task) return;
    if (visit !== window.Htx) {
      [visit, first] = [window.Htx, queuePosition];
      places = new Map((taskHistory ?? []).map(({ taskId }) => [taskId, null]));
      places.delete(task.id);
    }
    if (!places.has(task.id)) places.set(task.id, first + [...places.values()].filter(Boolean).length);
    const place = places.get(task.id);
    const text = !total ? "" : place ? `${Math.min(place, total)} of ${total}` : "an earlier pair";
    let box = $("#ndec-position");
    if (!box) line.prepend(box = make("span", { id: "ndec-position" }));
    if (box.textContent !== text) box.textContent = text;
  };

  const describePictures = () => pictures().forEach((image, index) => {
    const text = index === 0 ? "Query picture" : "Reference picture";
    if (image.alt !== text) image.alt = text;
  });

  const addButtons = () => {
    let box = $("#ndec-buttons");
    if (!box) {
      box = make("div", { id: "ndec-buttons" }, ...LABELS.map(([key, label, text]) => {
        const button = make("button", { type: "button", textContent: text, onclick: () => press(key) });
        button.dataset.label = label;
        return button;
      }));
      document.body.append(box);
    }
    for (const button of box.children) {
      const checked = window.ndecRadio?.(button.dataset.label)?.checked ?? false;
      if (button.ariaPressed !== String(checked)) button.ariaPressed = String(checked);
    }
  };

  const helpWithLogin = () => {
    const form = $("#login-form");
    if (!form || $("#ndec-login")) return;
    form.prepend(make("p", { id: "ndec-login" },
      "Type the email address and password that you were given. The person who runs the project finds them in the file ",
      make("code", { textContent: "label_studio/accounts.json" }), " of the workspace, and the first account, ",
      make("code", { textContent: "annotator@ndec.local" }), ", in ", make("code", { textContent: "label_studio/secrets.json" }), "."));
  };

  // A skipped task has a cancelled annotation, and Label Studio does not offer it to the same person again.
  const skippedAnnotations = async (project) => {
    const item = { filter: "filter:tasks:cancelled_annotations", operator: "greater", type: "Number", value: 0 };
    const query = encodeURIComponent(JSON.stringify({ filters: { conjunction: "and", items: [item] } }));
    const answer = await fetch(`/api/tasks?project=${project}&page_size=1000&fields=all&query=${query}`);
    const { tasks } = await answer.json();
    return tasks.flatMap((task) => task.annotations.filter((annotation) => annotation.was_cancelled));
  };

  const showEnd = async () => {
    const project = /\/projects\/(\d+)\/data.*labeling=1/.exec(window.location.href)?.[1];
    const ended = project && window.Htx?.noTask && !$(".ndec");
    if (!ended) { $("#ndec-end")?.remove(); return; }
    if ($("#ndec-end")) return;
    const box = document.body.appendChild(make("div", { id: "ndec-end" }));
    const skipped = await skippedAnnotations(project);
    box.append(make("p", { textContent: skipped.length
      ? `There are no more pairs for you. You skipped ${skipped.length}.` : "There are no more pairs for you. You skipped none." }));
    if (!skipped.length) return;
    const again = async () => {
      for (const { id } of skipped) await fetch(`/api/annotations/${id}`, { method: "DELETE" });
      window.location.reload();
    };
    box.append(make("button", { type: "button", textContent: "Show the skipped pairs again", onclick: again }));
  };

  const update = () => {
    helpWithLogin();
    showEnd();
    const line = $("#ndec-keys"); // one_key.js adds it while a pair is open
    if (!line) { $("#ndec-buttons")?.remove(); return; }
    showPosition(line);
    describePictures();
    addButtons();
    arrange();
    showWholePictures();
  };
  window.addEventListener("resize", () => requestAnimationFrame(arrange));
  setInterval(update, 200);
  update();
})();
