import { element, titleElement, twoDigits } from "./elements.js";
import { explanationElement } from "./explanation.js";

const DURATION = 260;
const CALM = matchMedia("(prefers-reduced-motion: reduce)");

/** The recommended items. Rows keep their elements from list to list, so that they can be seen to move. */
export class RecommendationList {
  #rows = new Map();
  #rowsMade = 0;

  /**
   * @param {HTMLElement} list
   * @param {{choose: (item: object) => void, explain: (item: string) => void}} actions
   */
  constructor(list, actions) {
    this.list = list;
    this.actions = actions;
  }

  /**
   * Show a list and how it differs from the former one.
   *
   * @param {{item: string, title: string, score: number}[]} items
   * @param {Map<string, number>|null} ranksBefore by item; null if there was no list
   */
  show(items, ranksBefore) {
    const tops = this.#tops();
    const focus = this.#focused();
    const rows = new Map(items.map(({ item, title }) => [item, this.#rows.get(item) ?? this.#newRow(item, title)]));
    items.forEach((recommended, index) => this.#fill(rows.get(recommended.item), recommended, index + 1, ranksBefore));
    this.#rows = rows;
    this.list.replaceChildren(...[...rows.values()].map((row) => row.element));
    this.#focus(focus);
    this.#move(tops);
  }

  /** Show why an item is recommended, and that of no other one; null closes. */
  showExplanation(explanation) {
    for (const [item, row] of this.#rows) {
      const isShown = item === explanation?.item;
      row.why.setAttribute("aria-expanded", String(isShown));
      row.explanation.hidden = !isShown;
      row.explanation.replaceChildren(...(isShown ? [explanationElement(explanation)] : []));
    }
  }

  #newRow(item, title) {
    this.#rowsMade += 1;
    const id = `why-${this.#rowsMade}`; // ids of items may hold what ids of elements may not
    const row = {
      rank: element("span", { class: "rank" }),
      choose: element("button", { class: "choose", type: "button" }, titleElement(title)),
      move: element("span", { class: "move" }),
      score: element("span", { class: "score" }),
      why: element("button", { class: "why", type: "button", "aria-expanded": "false", "aria-controls": id }, "Why"),
      explanation: element("div", { id, class: "explanation", hidden: "" }),
    };
    row.why.append(element("span", { class: "hidden" }, ` ${title}`));
    row.choose.addEventListener("click", () => this.actions.choose({ item, title }));
    row.why.addEventListener("click", () => this.actions.explain(item));
    const figures = element("span", { class: "figures" }, row.move, row.score);
    row.element = element("li", {}, row.rank, row.choose, figures, row.why, row.explanation);
    return row;
  }

  #fill(row, { item, score }, rank, ranksBefore) {
    const [kind, text] = ranksBefore ? movement(ranksBefore.get(item), rank) : ["", ""];
    row.rank.textContent = rank;
    row.score.textContent = twoDigits(score);
    row.move.className = `move ${kind}`;
    row.move.textContent = text;
  }

  /** The rank and the kind of the button that has the focus. */
  #focused() {
    const focused = document.activeElement;
    const rows = [...this.#rows.values()];
    const index = rows.findIndex(({ element }) => element.contains(focused));
    return index < 0 ? null : { row: rows[index], index, name: focused === rows[index].why ? "why" : "choose" };
  }

  /** Moved elements lose the focus: give it back, or to the row that has taken the place. */
  #focus(focus) {
    const rows = [...this.#rows.values()];
    if (focus && rows.length) {
      const row = rows.includes(focus.row) ? focus.row : rows[Math.min(focus.index, rows.length - 1)];
      row[focus.name].focus({ preventScroll: true });
    }
  }

  #tops() {
    return new Map([...this.#rows].map(([item, row]) => [item, row.element.getBoundingClientRect().top]));
  }

  /** Let each row glide from where it was; a new one appears. */
  #move(tops) {
    if (CALM.matches || tops.size === 0) {
      return;
    }
    const rows = [...this.#rows];
    rows.forEach(([, row]) => row.element.getAnimations().forEach((animation) => animation.cancel()));
    const distances = rows.map(([item, row]) => tops.get(item) - row.element.getBoundingClientRect().top);
    rows.forEach(([, { element }], index) => {
      const distance = distances[index];
      const start = Number.isNaN(distance) ? { opacity: 0 } : { transform: `translateY(${distance}px)` };
      if (distance !== 0) {
        element.animate([start, {}], { duration: DURATION, easing: "ease-out" });
      }
    });
  }
}

/** The kind of a row's movement, and the words for it. */
function movement(before, rank) {
  if (before === undefined) {
    return ["new", "new"];
  }
  const places = before - rank;
  if (places === 0) {
    return ["", ""];
  }
  return places > 0 ? ["up", `up ${places}`] : ["down", `down ${-places}`];
}
