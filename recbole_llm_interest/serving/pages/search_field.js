import { counted, element, titleElement } from "./elements.js";
import { findItems, Latest } from "./requests.js";

/** How long the reader's fingers may rest before a search, ms. */
const PAUSE = 150;
const COUNT = 10;

/** A field that finds items by title: a combobox whose first option is the one that Enter chooses. */
export class SearchField {
  #latest = new Latest();
  #items = [];
  #active = -1;
  #timer = 0;

  /**
   * @param {{input: HTMLInputElement, options: HTMLElement, count: HTMLElement}} parts
   * @param {(item: {item: string, title: string}) => void} choose
   * @param {(error: Error) => void} report
   */
  constructor({ input, options, count }, choose, report) {
    Object.assign(this, { input, options, count, choose, report });
    input.addEventListener("input", (event) => event.isComposing || this.#searchSoon());
    input.addEventListener("compositionend", () => this.#searchSoon());
    input.addEventListener("keydown", (event) => event.isComposing || this.#press(event));
    input.addEventListener("click", () => this.#isOpen || this.#search());
    input.addEventListener("blur", () => this.#close());
    options.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
    options.addEventListener("click", (event) => this.#choose(this.#placeOf(event.target)));
  }

  get #isOpen() {
    return !this.options.hidden;
  }

  #placeOf(target) {
    return [...this.options.children].indexOf(target.closest("[role=option]"));
  }

  #press(event) {
    const action = {
      ArrowDown: () => (this.#isOpen ? this.#activate(this.#active + 1) : this.#search()),
      ArrowUp: () => this.#activate(this.#active - 1),
      Enter: () => (this.#active < 0 ? this.#search({ choosesFirst: true }) : this.#choose(this.#active)),
      Escape: () => this.#close(),
    }[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  }

  #searchSoon() {
    this.#activate(-1); // Enter does not choose what was found for another text
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#search(), PAUSE);
  }

  async #search({ choosesFirst = false } = {}) {
    clearTimeout(this.#timer);
    const query = this.input.value.trim();
    try {
      const { items } = await findItems(query, COUNT, this.#latest.next());
      this.#show(items, query);
      if (choosesFirst) {
        this.#choose(0);
      }
    } catch (error) {
      this.#close();
      this.report(error);
    }
  }

  #show(items, query) {
    this.#items = items;
    this.options.replaceChildren(
      ...items.map(({ title }, place) =>
        element("li", { id: `found-${place}`, role: "option", "aria-selected": "false" }, titleElement(title)),
      ),
    );
    this.count.textContent = items.length ? `${counted(items.length, "title")} found` : `No title has “${query}”`;
    this.count.classList.toggle("hidden", items.length > 0);
    this.#open(items.length > 0);
    this.#activate(0);
  }

  #open(isOpen) {
    this.options.hidden = !isOpen;
    this.input.setAttribute("aria-expanded", String(isOpen));
  }

  #activate(place) {
    const options = [...this.options.children];
    this.#active = options.length && place >= 0 ? place % options.length : -1;
    options.forEach((option, index) => option.setAttribute("aria-selected", String(index === this.#active)));
    const active = options[this.#active];
    active?.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", active?.id ?? "");
  }

  #choose(place) {
    const item = this.#items[place];
    if (item) {
      this.input.value = "";
      this.#close();
      this.choose(item);
    }
  }

  #close() {
    clearTimeout(this.#timer);
    this.#latest.next(); // an answer that comes later would open the list again
    this.#activate(-1);
    this.#open(false);
    this.count.textContent = "";
  }
}
