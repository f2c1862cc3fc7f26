/**
 * Create an element. Children that are strings become text, whatever they hold: titles come from anybody.
 *
 * @param {string} tag
 * @param {Object<string, string>} attributes
 * @param {...(Node|string)} children
 */
export function element(tag, attributes = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    created.setAttribute(name, value);
  }
  created.append(...children);
  return created;
}

/** A title in the direction of its own script. */
export function titleElement(title) {
  return element("bdi", { class: "title", dir: "auto" }, title);
}

/** The element of an id of index.html. */
export function byId(id) {
  return document.getElementById(id);
}

/** Such as "1,682 items" and "1 event". */
export function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/** A number with two digits and a true minus sign. */
export function twoDigits(number) {
  return number.toFixed(2).replace("-", "\u2212");
}

/** Set a bar's width. The page's policy forbids style attributes, and allows this. */
export function setShare(bar, share) {
  bar.style.setProperty("width", `${100 * Math.min(Math.max(share, 0), 1)}%`);
}
