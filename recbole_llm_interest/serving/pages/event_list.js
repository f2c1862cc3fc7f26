import { element, titleElement } from "./elements.js";

/** The assumed events, each with a button that removes it. */
export class EventList {
  /**
   * @param {{list: HTMLElement, none: HTMLElement, restart: HTMLButtonElement}} parts
   * @param {(place: number) => void} remove
   */
  constructor({ list, none, restart }, remove) {
    Object.assign(this, { list, none, restart, remove });
  }

  /** @param {{item: string, title: string}[]} events */
  show(events) {
    this.list.replaceChildren(...events.map((event, place) => this.#row(event.title, place)));
    this.none.hidden = events.length > 0;
    this.restart.hidden = events.length === 0;
  }

  /** Focus the button of a place, or of the last one. Returns whether there is one. */
  focus(place) {
    const buttons = this.list.querySelectorAll("button");
    const button = buttons[Math.min(place, buttons.length - 1)];
    button?.focus();
    return button !== undefined;
  }

  #row(title, place) {
    const button = element("button", { class: "quiet", type: "button", "aria-label": `Remove ${title}` }, "\u00d7");
    button.addEventListener("click", () => this.remove(place));
    return element("li", {}, titleElement(title), button);
  }
}
