// The contact sheet when scripts run: all pairs are filtered and sorted, and only those in sight are in the page.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const count = data.rank.length, main = document.querySelector("main"), gap = 10, height = 262;
  const made = [...main.querySelectorAll("figure")]; // the pairs whose pictures are inside the page; the first ones
  const field = (name) => document.getElementById(name);
  const lower = data.query.map((id, i) => (id + "\n" + data.reference[i]).toLowerCase());
  let order = Uint32Array.from({ length: count }, (_, i) => i), shown = new Map(), asked = 0;
  let people = count; // this many of `order` come before the duplicates
  let decisions = {};
  const heading = main.querySelector("h2");
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

  function decide(figure, i) {
    const label = decisions[data.pair[i]];
    if (!label || figure.querySelector(".decision")) return;
    const text = figure.querySelector(".rank").appendChild(document.createElement("span"));
    text.className = "decision";
    text.textContent = " · " + label.replaceAll("_", " ");
  }

  function render() {
    asked = 0;
    const width = main.clientWidth - gap, columns = Math.max(1, Math.floor(width / (336 + gap)));
    const cell = width / columns, step = height + gap;
    // duplicates start in a row of their own, below their heading
    const before = Math.ceil(people / columns), empty = before * columns - people;
    const rows = before + Math.ceil((order.length - people) / columns), shift = people < order.length ? 40 : 0;
    main.style.height = rows * step + gap + shift + "px";
    if (heading) {
      heading.style.display = shift ? "" : "none";
      heading.style.top = gap + before * step + "px";
    }
    const top = window.scrollY - main.offsetTop;
    const slot = (place) => place + (place >= people ? empty : 0);
    const place_at = (row) => (row <= before ? Math.min(row * columns, people) : row * columns - empty);
    const first = Math.max(0, place_at(Math.max(0, Math.floor((top - shift) / step) - 2)));
    const last = Math.min(order.length, place_at(Math.ceil((top + window.innerHeight) / step) + 2));
    const now = new Map();
    for (let place = first; place < last; place++) {
      const i = order[place], figure = shown.get(i) || build(i), at = slot(place);
      figure.style.left = gap + (at % columns) * cell + "px";
      figure.style.top = gap + Math.floor(at / columns) * step + (place >= people ? shift : 0) + "px";
      figure.style.width = cell - gap + "px";
      if (!figure.parentNode) main.appendChild(figure);
      decide(figure, i);
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
    const kept = [], decision = field("decision").value;
    for (let i = 0; i < count; i++) {
      if (data.score[i] < low || data.score[i] > high) continue;
      if (double !== "" && Boolean(data.duplicate[i]) !== (double === "1")) continue;
      if (hint && data.hint[i] !== hint) continue;
      if (decision && (decisions[data.pair[i]] || "none") !== decision) continue;
      if (text && !lower[i].includes(text)) continue;
      kept.push(i);
    }
    const value = (i) => (key[i] === null ? -Infinity * descending * sign : key[i]); // pairs without a value come last
    kept.sort((a, b) => data.duplicate[a] - data.duplicate[b] || (value(a) === value(b) ? data.rank[a] - data.rank[b] : sign * descending * (value(a) < value(b) ? -1 : 1)));
    order = Uint32Array.from(kept);
    people = kept.filter((i) => !data.duplicate[i]).length;
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

  const script = document.createElement("script"); // made by `ndec annotate resolve`; before that it does not exist
  script.src = data.decisions;
  script.onload = () => {
    decisions = window.ndecDecisions || {};
    const labels = new Set(data.pair.map((pair) => decisions[pair]).filter(Boolean));
    for (const label of [...[...labels].sort(), "none"]) {
      field("decision").append(new Option(label === "none" ? "none yet" : label.replaceAll("_", " "), label));
    }
    if (labels.size) document.body.classList.add("decided");
    soon();
  };
  document.head.appendChild(script);
})();
