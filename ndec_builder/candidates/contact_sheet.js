// The contact sheet when scripts run: all pairs are filtered and sorted, and only those in sight are in the page.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const count = data.rank.length, main = document.querySelector("main"), gap = 10, height = 262;
  const made = [...main.children]; // the pairs whose pictures are inside the page; the first ones
  const field = (name) => document.getElementById(name);
  const lower = data.query.map((id, i) => (id + "\n" + data.reference[i]).toLowerCase());
  let order = Uint32Array.from({ length: count }, (_, i) => i), shown = new Map(), asked = 0;
  document.body.classList.add("live");

  function build(i) {
    if (i < made.length) return made[i];
    const figure = document.createElement("figure");
    if (data.duplicate[i]) figure.className = "duplicate";
    const pictures = figure.appendChild(document.createElement("div"));
    pictures.className = "pictures";
    for (const [role, ids, files] of [[data.roles[0], data.query, data.query_file], [data.roles[1], data.reference, data.reference_file]]) {
      const file = files[i];
      if (file === null) {
        const gone = pictures.appendChild(document.createElement("span"));
        gone.className = "gone";
        gone.textContent = role + ": see the labelling page";
        continue;
      }
      const image = pictures.appendChild(document.createElement("img"));
      image.decoding = "async";
      image.alt = role + " " + ids[i];
      image.src = data.files[file];
    }
    const caption = figure.appendChild(document.createElement("figcaption"));
    const rank = caption.appendChild(document.createElement("span"));
    rank.className = "rank";
    rank.textContent = `${data.rank[i]} · score ${Math.min(1, data.score[i]).toFixed(4)}`;
    for (const mark of [data.duplicate[i] ? "duplicate" : "", data.hint[i]]) {
      if (!mark) continue;
      const text = rank.appendChild(document.createElement("span"));
      text.className = "mark";
      text.textContent = " · " + mark;
    }
    for (const [role, id] of [[data.roles[0], data.query[i]], [data.roles[1], data.reference[i]]]) {
      const side = caption.appendChild(document.createElement("span"));
      side.title = id; // what is too long for the card
      side.append(role, document.createElement("br"), id);
    }
    return figure;
  }

  function render() {
    asked = 0;
    const width = main.clientWidth - gap, columns = Math.max(1, Math.floor(width / (336 + gap)));
    const cell = width / columns, rows = Math.ceil(order.length / columns);
    main.style.height = rows * (height + gap) + gap + "px";
    const top = window.scrollY - main.offsetTop;
    const first = Math.max(0, Math.floor(top / (height + gap)) - 2) * columns;
    const last = Math.min(order.length, (Math.ceil((top + window.innerHeight) / (height + gap)) + 2) * columns);
    const now = new Map();
    for (let place = first; place < last; place++) {
      const i = order[place], figure = shown.get(i) || build(i);
      figure.style.left = gap + (place % columns) * cell + "px";
      figure.style.top = gap + Math.floor(place / columns) * (height + gap) + "px";
      figure.style.width = cell - gap + "px";
      if (!figure.parentNode) main.appendChild(figure);
      now.set(i, figure);
    }
    for (const [i, figure] of shown) if (!now.has(i)) figure.remove();
    shown = now;
  }

  function soon() {
    if (!asked) asked = requestAnimationFrame(render);
  }

  function choose() {
    const text = field("text").value.trim().toLowerCase(), hint = field("hint").value, double = field("duplicates").value;
    const low = field("low").value === "" ? -Infinity : +field("low").value;
    const high = field("high").value === "" ? Infinity : +field("high").value;
    const key = data[field("sort").value], sign = field("turned").checked ? -1 : 1, descending = field("sort").value === "rank" ? 1 : -1;
    const kept = [];
    for (let i = 0; i < count; i++) {
      if (data.score[i] < low || data.score[i] > high) continue;
      if (double !== "" && Boolean(data.duplicate[i]) !== (double === "1")) continue;
      if (hint && data.hint[i] !== hint) continue;
      if (text && !lower[i].includes(text)) continue;
      kept.push(i);
    }
    const value = (i) => (key[i] === null ? -Infinity * descending * sign : key[i]); // pairs without a value come last
    kept.sort((a, b) => (value(a) === value(b) ? data.rank[a] - data.rank[b] : sign * descending * (value(a) < value(b) ? -1 : 1)));
    order = Uint32Array.from(kept);
    field("shown").textContent = `${kept.length.toLocaleString("en")} of ${count.toLocaleString("en")} pairs`;
    window.scrollTo(0, Math.min(window.scrollY, main.offsetTop));
    for (const figure of shown.values()) figure.remove();
    shown = new Map();
    soon();
  }

  for (const figure of made) figure.remove();
  let typing = 0;
  field("choose").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(choose, 120);
  });
  field("choose").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("scroll", soon, { passive: true });
  window.addEventListener("resize", soon);
  choose();
})();
