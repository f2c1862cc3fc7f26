import { byId, counted } from "./elements.js";
import { EventList } from "./event_list.js";
import { InterestBars } from "./interest_bars.js";
import { RecommendationList } from "./recommendation_list.js";
import { getModel, isOvertaken, Latest, preview, rememberKey } from "./requests.js";
import { SearchField } from "./search_field.js";

const COUNT = 10;

/** What the reader has entered. */
const entered = { user: "", events: [], isUnseenOnly: false, explained: null };
/** What is on the page: how many items there are, the question that its list answers, and the list's ranks. */
const shown = { itemCount: null, question: null, ranks: null, ranksBefore: null };

const latest = new Latest();
const search = byId("search");
const bars = new InterestBars(byId("interests"));
const list = new RecommendationList(byId("list"), { choose: addEvent, explain: toggleExplanation });
const events = new EventList({ list: byId("chosen"), none: byId("no-events"), restart: byId("restart") }, removeEvent);

// --- what the reader does

function addEvent(item) {
  entered.events = [...entered.events, item];
  changeEvents();
}

function removeEvent(place) {
  entered.events = entered.events.filter((_, other) => other !== place);
  changeEvents();
  if (!events.focus(place)) {
    search.focus();
  }
}

function startAgain() {
  entered.events = [];
  changeEvents();
  search.focus();
}

function changeEvents() {
  events.show(entered.events);
  refresh();
}

function chooseUser() {
  entered.user = byId("user").value.trim();
  refresh();
}

function useKey() {
  rememberKey(byId("key").value.trim());
  refresh();
}

function toggleExplanation(item) {
  const isOpen = entered.explained === item;
  entered.explained = isOpen ? null : item;
  if (isOpen) {
    list.showExplanation(null);
  } else {
    refresh();
  }
}

// --- what the service answers

/** Ask for everything that the page shows, by what the reader has entered. */
async function refresh() {
  const signal = latest.next();
  byId("list").setAttribute("aria-busy", "true");
  try {
    await showModel(signal);
    const question = asked();
    const explain = entered.explained ?? undefined;
    showAnswer(question, await preview({ ...question, explain }, signal));
    showMessage("");
  } catch (error) {
    report(error);
  }
}

function asked() {
  const { user, events: chosen, isUnseenOnly } = entered;
  const k = Math.min(COUNT, shown.itemCount); // the service refuses to give more than there are
  return { user: user || undefined, items: chosen.map(({ item }) => item), k, exclude_seen: isUnseenOnly };
}

async function showModel(signal) {
  if (shown.itemCount === null) {
    const { dataset, items, needs_key: needsKey } = await getModel(signal);
    byId("model").textContent = [...(dataset ? [`Data set ${dataset}`] : []), counted(items, "item")].join(" · ");
    byId("key-section").hidden = !needsKey;
    shown.itemCount = items;
  }
}

function showAnswer(question, { events: count, items, interests, explanation }) {
  const text = JSON.stringify(question);
  if (text !== shown.question) { // an explanation alone leaves the movements as they are
    shown.ranksBefore = shown.ranks;
    shown.ranks = new Map(items.map(({ item }, index) => [item, index + 1]));
    shown.question = text;
  }
  list.show(items, shown.ranksBefore);
  list.showExplanation(shown.ranks.has(explanation?.item) ? explanation : null);
  if (!shown.ranks.has(entered.explained)) {
    entered.explained = null;
  }
  bars.show(interests);
  byId("basis").textContent = basis(question, count);
  byId("list").removeAttribute("aria-busy");
}

/** What the list follows from, in words. */
function basis({ user, items }, count) {
  const who = user ? `For ${user}` : "For somebody new";
  const known = count - items.length;
  const parts = [
    ...(known ? [counted(known, "known event")] : []),
    ...(items.length ? [`${counted(items.length, "event")} tried here`] : []),
  ];
  return parts.length ? `${who}, after ${parts.join(" and ")}` : `${who}, of whom no event is known`;
}

function report(error) {
  if (isOvertaken(error)) {
    return;
  }
  byId("list").removeAttribute("aria-busy");
  if (error.asksForKey) {
    byId("key-section").hidden = false;
  }
  showMessage(error.message, error.canBeRepeated);
}

function showMessage(text, canBeRepeated = false) {
  byId("message").classList.toggle("message", Boolean(text)); // never hidden: a change of it is read aloud
  byId("message-text").textContent = text;
  byId("retry").hidden = !canBeRepeated;
}

// --- start

function onSubmit(form, action) {
  byId(form).addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

onSubmit("user-form", chooseUser);
onSubmit("key-form", useKey);
byId("user").addEventListener("change", chooseUser);
byId("restart").addEventListener("click", startAgain);
byId("retry").addEventListener("click", refresh);
byId("unseen").addEventListener("change", (event) => {
  entered.isUnseenOnly = event.target.checked;
  refresh();
});
new SearchField({ input: search, options: byId("found"), count: byId("found-count") }, addEvent, report);
events.show([]);
refresh();
