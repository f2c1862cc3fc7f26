import { counted, element, setShare, titleElement, twoDigits } from "./elements.js";

/** Points that would be shown as 0.00 say nothing. */
const LEAST = 0.005;
const MOST = 8;

/** What the service's names of an item's parts mean. */
const OF_ITEM = new Map([
  ["text", "its text"],
  ["image", "its picture"],
  ["audio", "its sound"],
  ["id", "what users did with it in training"],
  ["repeat bias", "it is among the earlier events"],
  ["neighbour bias", "it is like items of the earlier events"],
  ["transition bias", "it often comes after items of the earlier events"],
  ["event content bias", "it suits what was said at the earlier events"],
]);
const WITHOUT = new Map([
  ["no image", "that it has no picture"],
  ["no audio", "that it has no sound"],
]);
const OF_USER = new Map([
  ["profile", "what is known of the user"],
  ["context", "the situation"],
]);

/** An explanation of a score, in words and two tables. */
export function explanationElement({ score, is_exact: isExact, of_item: ofItem, of_user: ofUser }) {
  const lost = "how much lower the score would be without each";
  return element(
    "div",
    {},
    element("h3", {}, `Why its score is ${twoDigits(score)}`),
    element("p", { class: "hint" }, "Points above zero speak for the item, points below zero against it."),
    partsElement(`The item: ${isExact ? "points that sum to the score" : lost}`, ofItem, itemWords),
    ofUser.length
      ? partsElement(`The user: ${lost}`, ofUser, userWords)
      : element("p", {}, "Nothing is known of the user yet: everybody new gets these recommendations."),
  );
}

function partsElement(caption, parts, words) {
  const telling = parts.filter(({ points }) => Math.abs(points) >= LEAST);
  const most = Math.max(...telling.map(({ share }) => share));
  const rows = telling.slice(0, MOST).map((part) => rowElement(part, words(part), part.share / most));
  const left = telling.length - rows.length;
  if (left > 0) {
    rows.push(element("tr", {}, element("td", { colspan: "2", class: "hint" }, `and ${counted(left, "smaller part")}`)));
  }
  return element("table", {}, element("caption", {}, caption), headElement(), element("tbody", {}, ...rows));
}

function headElement() {
  const cells = ["What counts", "Points"].map((text) => element("th", { scope: "col" }, text));
  return element("thead", {}, element("tr", {}, ...cells));
}

function rowElement({ points }, words, length) {
  const bar = element("span", { class: points < 0 ? "bar against" : "bar for", "aria-hidden": "true" });
  setShare(bar, length);
  const sign = points > 0 ? "+" : "";
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, words, element("span", { class: "track", "aria-hidden": "true" }, bar)),
    element("td", {}, `${sign}${twoDigits(points)}`),
  );
}

function itemWords({ name }) {
  const isMissing = name.startsWith("no ");
  return OF_ITEM.get(name) ?? WITHOUT.get(name) ?? (isMissing ? `that it has ${name}` : `its ${name}`);
}

/** A part of the user is an event by the title of its item, unless it has a name of its own. */
function userWords({ name, title }) {
  const words = title === null ? OF_USER.get(name) : undefined;
  return words ?? titleElement(title ?? name.replace(/^content at /, "what was said at "));
}
