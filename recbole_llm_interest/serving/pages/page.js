// Shows what the service would recommend after the chosen events. All texts of data are set as text, never as HTML.

const LIST_LENGTH = 10;
const MOVE_MS = 300;
const SEARCH_PAUSE_MS = 200;
const KEY = "llm-interest key";
const WORDS = {
  id: "learned of this item alone",
  text: "what its text says",
  image: "what its image shows",
  audio: "how it sounds",
  "repeat bias": "was chosen before",
  "neighbour bias": "is like items chosen before",
  "transition bias": "others chose it next",
  "event content bias": "others chose it in a like case",
  profile: "who the user is",
};

const at = (id) => document.getElementById(id);
const state = { user: "", chosen: [], ranks: new Map(), explained: null };
let asked = new AbortController();
let pause = 0;

// --- the service

async function call(path, { body, signal } = {}) {
  const headers = { "Content-Type": "application/json" };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  const method = body ? "POST" : "GET";
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The service does not answer. What you have chosen is kept: try again when it runs.");
  }
  at("key").hidden = answer.status !== 401;
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

// Runs what a click asks for; the last fault is shown until something works again.
async function attempt(job) {
  try {
    await job();
    at("fault").hidden = true;
  } catch (error) {
    if (error.name === "AbortError") return; // a later click has overtaken it
    at("fault").textContent = error.message;
    at("fault").hidden = false;
  }
}

async function showModel() {
  const model = await call("/model");
  at("model").textContent = `Data set ${model.dataset ?? "unknown"}, ${model.items.toLocaleString()} items`;
}

async function update() {
  asked.abort();
  asked = new AbortController();
  const items = state.chosen.map((one) => one.item);
  const body = { user: state.user || null, items, k: LIST_LENGTH, explain: state.explained };
  const found = await call("/previews", { body, signal: asked.signal });
  showChosen(found.events);
  showList(found.items);
  showInterests(found.interests);
  showWhy(found.explanation, found.items);
}

// --- elements

function element(name, { text, of = [], ...properties } = {}) {
  const made = Object.assign(document.createElement(name), properties);
  if (text !== undefined) made.textContent = text;
  made.append(...of);
  return made;
}

function title(text) {
  return element("span", { text, dir: "auto" });
}

function small(text) {
  return element("span", { text, className: "small" });
}

function choose(item, label) {
  at("search-field").value = "";
  at("found").replaceChildren();
  state.chosen.push({ item, title: label });
  state.explained = null;
  return attempt(update);
}

function showChosen(events) {
  at("count").textContent = `The list follows from ${events} ${events === 1 ? "event" : "events"}.`;
  at("chosen").replaceChildren(
    ...state.chosen.map((one, place) => {
      const remove = element("button", { text: "Remove", type: "button", ariaLabel: `Remove ${one.title}` });
      remove.addEventListener("click", () => {
        state.chosen.splice(place, 1);
        attempt(update);
      });
      const name = title(one.title);
      name.className = "item";
      return element("li", { of: [name, remove] });
    }),
  );
}

// --- the list

function showList(items) {
  const list = at("list");
  const before = new Map([...list.children].map((row) => [row.dataset.item, row.getBoundingClientRect().top]));
  const focused = list.contains(document.activeElement) ? document.activeElement.closest("li").dataset.item : null;
  list.replaceChildren(...items.map((one, place) => listRow(one, place + 1)));
  move(list, before);
  if (focused !== null) keepFocus(list, focused);
  state.ranks = new Map(items.map((one, place) => [one.item, place + 1]));
}

function listRow(one, rank) {
  const facts = [moved(one.item, rank), one.score.toFixed(2)].filter(Boolean).join(", ");
  const name = element("button", {
    type: "button",
    className: "item",
    of: [small(rank), title(one.title), small(facts)],
  });
  name.addEventListener("click", () => choose(one.item, one.title));
  const why = element("button", { text: "Why?", type: "button", ariaLabel: `Why ${one.title}?` });
  why.addEventListener("click", async () => {
    state.explained = one.item;
    await attempt(update);
    at("why").focus();
  });
  const row = element("li", { of: [name, why] });
  row.dataset.item = one.item;
  return row;
}

function moved(item, rank) {
  if (!state.ranks.size) return "";
  const former = state.ranks.get(item);
  if (former === undefined) return "new";
  if (former === rank) return "";
  return former > rank ? `up ${former - rank}` : `down ${rank - former}`;
}

// Rows begin where they were, and go to where they are (FLIP).
function move(list, before) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const row of list.children) {
    const former = before.get(row.dataset.item);
    const shift = former === undefined ? 0 : former - row.getBoundingClientRect().top;
    const from = former === undefined ? { opacity: 0 } : { transform: `translateY(${shift}px)` };
    row.animate([from, {}], { duration: MOVE_MS, easing: "ease-out" });
  }
}

// Who works by keyboard stays in the list, at the same item or at the first one.
function keepFocus(list, item) {
  const row = [...list.children].find((one) => one.dataset.item === item) ?? list.firstElementChild;
  row?.querySelector("button").focus();
}

// --- interests and reasons

function showInterests(interests) {
  at("interests").replaceChildren(
    ...interests.map((one) => {
      const percent = `${(100 * one.weight).toFixed(0)} %`;
      const bar = element("span", { className: "bar" });
      bar.style.setProperty("width", `${100 * one.weight}%`);
      return element("li", { of: [bar, title(one.name), small(` ${percent}`)] });
    }),
  );
}

function showWhy(explanation, items) {
  at("why").hidden = explanation === null;
  if (explanation === null) return;
  const name = items.find((one) => one.item === explanation.item)?.title ?? explanation.item;
  at("why-item").textContent = `${name} has a score of ${explanation.score.toFixed(2)}.`;
  at("why-of-item").textContent = explanation.is_exact
    ? "What makes the score: the points sum to it"
    : "How much less it would be without each part";
  at("of-item").replaceChildren(...explanation.of_item.map(partRow));
  at("of-user").replaceChildren(...explanation.of_user.map(partRow));
}

function partRow(part) {
  const points = element("td", { text: part.points.toFixed(2) });
  return element("tr", { of: [element("td", { of: [title(part.title ?? WORDS[part.name] ?? part.name)] }), points] });
}

// --- search

async function search() {
  const query = at("search-field").value.trim();
  const found = query ? (await call(`/items?k=8&query=${encodeURIComponent(query)}`)).items : [];
  if (query !== at("search-field").value.trim()) return; // overtaken by what was typed since
  at("found").replaceChildren(...found.map(foundRow));
}

function foundRow(one) {
  const button = element("button", { type: "button", className: "item", of: [title(one.title)] });
  button.addEventListener("click", () => choose(one.item, one.title));
  return element("li", { of: [button] });
}

// --- start

function begin() {
  at("user").addEventListener("submit", (event) => {
    event.preventDefault();
    Object.assign(state, { user: at("user-field").value.trim(), explained: null });
    attempt(update);
  });
  at("search").addEventListener("submit", (event) => event.preventDefault());
  at("search-field").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => attempt(search), SEARCH_PAUSE_MS);
  });
  at("again").addEventListener("click", () => {
    Object.assign(state, { chosen: [], explained: null, ranks: new Map() });
    attempt(update);
  });
  at("key").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, at("key-field").value.trim());
    attempt(start);
  });
  attempt(start);
}

async function start() {
  await showModel();
  await update();
}

begin();
