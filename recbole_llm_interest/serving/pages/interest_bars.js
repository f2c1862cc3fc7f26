import { element, setShare, titleElement } from "./elements.js";

/** Weights that are smaller in all are not shown as a group of their own. */
const LEAST_REST = 0.005;

/** Interests with their weights as bars, which keep their elements so that they can be seen to grow. */
export class InterestBars {
  #rows = new Map();

  /** @param {HTMLElement} list */
  constructor(list) {
    this.list = list;
  }

  /** @param {{name: string, weight: number, share: number|null, items: string[]}[]} interests */
  show(interests) {
    const rest = 1 - interests.reduce((sum, { weight }) => sum + weight, 0);
    const shown = interests.map((one) => ({ ...one, key: `of ${one.name}` }));
    if (rest >= LEAST_REST) {
      shown.push({ key: "rest", name: "all others", weight: rest, share: null, items: [] });
    }
    this.#rows = new Map(shown.map((one) => [one.key, this.#rows.get(one.key) ?? newRow(one)]));
    shown.forEach(({ key, weight }) => fill(this.#rows.get(key), weight));
    this.list.replaceChildren(...[...this.#rows.values()].map((row) => row.element));
  }
}

function newRow({ name, share, items }) {
  const percent = element("span", { class: "percent" });
  const bar = element("span", { class: "bar for" });
  const parts = [
    element("div", { class: "line" }, titleElement(name), percent),
    element("div", { class: "track", "aria-hidden": "true" }, bar),
  ];
  if (share !== null) { // otherwise the name itself is of titles
    const titles = items.flatMap((title, place) => [place ? " · " : "", titleElement(title)]);
    parts.push(element("p", { class: "hint" }, ...titles));
  }
  return { percent, bar, element: element("li", {}, ...parts) };
}

function fill({ percent, bar }, weight) {
  const rounded = Math.round(100 * weight);
  percent.textContent = rounded < 1 ? "under 1%" : `${rounded}%`;
  setShare(bar, weight);
}
