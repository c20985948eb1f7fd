// The list of containers as a tree (the pattern "Tree View" of the ARIA practices): one stop for Tab, arrows within.

import { h, icon, setAttribute, setText } from "./dom.js";
import { Spark } from "./chart.js";
import { bytes, condition, duration, state } from "./format.js";

const ORDER = { on: 0, between: 0, failed: 1, ok: 1 };
/** Characters of a command in a row, which has room for fewer. */
const MOST = 80;
const { compare: compareNames } = new Intl.Collator(undefined, { numeric: true });

/** What runs comes first, by name; then what has ended, the last one first. */
function compare(left, right) {
  const byState = ORDER[condition(left)] - ORDER[condition(right)];
  return byState || (right.ended ?? 0) - (left.ended ?? 0) || compareNames(left.id, right.id);
}

export class Tree {
  #rows = new Map();
  #closed = new Set();
  #visible = [];
  #filter = "";
  #selected = null;
  #focused = null;
  #groups = new Map();

  /** `choose` is called with the id of a container that somebody wants to see. */
  constructor(store, choose) {
    this.store = store;
    this.choose = choose;
    this.element = h("ul", { class: "tree", role: "tree", "aria-label": "Containers", onkeydown: (event) => this.#key(event) });
  }

  filter(text) {
    this.#filter = text.trim().toLowerCase();
    this.update();
  }

  select(id) {
    this.#selected = id;
    for (let parent = this.store.containers.get(id)?.parent; parent; parent = this.store.containers.get(parent)?.parent) {
      this.#closed.delete(parent);
    }
    this.update();
  }

  /** How many rows there are, also those in closed ones. */
  get size() {
    return this.#rows.size;
  }

  update() {
    this.#groups = this.#group();
    const shown = [];
    this.#walk(null, 1, true, shown);
    this.#visible = shown.filter(({ isOpen }) => isOpen).map(({ container }) => container.id);
    const kept = new Set(shown.map(({ container }) => container.id));
    for (const [id, row] of this.#rows) {
      if (kept.has(id)) continue;
      if (row.element.contains(document.activeElement)) this.element.querySelector("[role=treeitem]")?.focus();
      row.element.remove();
      this.#rows.delete(id);
    }
    for (const [index, { container, level, isOpen, position, count }] of shown.entries()) {
      const row = this.#row(container.id);
      row.update(container, { level, position, count, series: this.store.series(container.id), now: this.store.now() });
      row.element.hidden = !isOpen;
      setAttribute(row.element, "aria-selected", String(container.id === this.#selected));
      const expanded = this.#children(container.id).length === 0 ? null : String(!this.#closed.has(container.id));
      setAttribute(row.element, "aria-expanded", expanded);
      if (this.element.children[index] !== row.element) this.#place(row.element, index);
    }
    this.#setStop();
  }

  #place(element, index) {
    const hadFocus = element.contains(document.activeElement);
    this.element.insertBefore(element, this.element.children[index] ?? null);
    if (hadFocus) element.focus(); // To move an element takes the focus from it.
  }

  #row(id) {
    let row = this.#rows.get(id);
    if (row === undefined) {
      row = new Row(id, () => this.#choose(id), () => this.#toggle(id));
      this.#rows.set(id, row);
    }
    return row;
  }

  #walk(parent, level, isOpen, shown) {
    const children = this.#children(parent);
    children.forEach((container, index) => {
      shown.push({ container, level, isOpen, position: index + 1, count: children.length });
      this.#walk(container.id, level + 1, isOpen && !this.#closed.has(container.id), shown);
    });
  }

  #children(parent) {
    return this.#groups.get(parent) ?? [];
  }

  /** What is shown below each container, and (null) on top: there is also what has lost its parent. */
  #group() {
    const all = [...this.store.containers.values()];
    const above = ({ parent }) => (this.store.containers.has(parent) ? parent : null);
    const wanted = new Set();
    for (const container of all.filter((each) => this.#matches(each))) {
      for (let each = container; each !== undefined; each = this.store.containers.get(each.parent)) wanted.add(each);
    }
    const groups = Map.groupBy([...wanted], above);
    for (const group of groups.values()) group.sort(compare);
    return groups;
  }

  #matches(container) {
    if (this.#filter === "") return true;
    const texts = [container.id, container.image ?? "", container.command ?? "", state(container)];
    return texts.some((text) => text.toLowerCase().includes(this.#filter));
  }

  // The keyboard.

  #setStop() {
    const at = this.#visible.includes(this.#focused) ? this.#focused : null;
    const stop = at ?? (this.#visible.includes(this.#selected) ? this.#selected : this.#visible[0]);
    for (const [id, row] of this.#rows) setAttribute(row.element, "tabindex", id === stop ? "0" : "-1");
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const id = event.target.closest("[role=treeitem]")?.dataset.id;
    const at = this.#visible.indexOf(id);
    if (at === -1) return;
    const move = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.#visible.length - 1 }[event.key];
    if (move !== undefined) this.#focus(this.#visible[Math.max(0, Math.min(this.#visible.length - 1, move))]);
    else if (event.key === "ArrowRight") this.#open(id);
    else if (event.key === "ArrowLeft") this.#close(id);
    else if (event.key === "Enter" || event.key === " ") this.#choose(id);
    else return;
    event.preventDefault();
  }

  #open(id) {
    if (this.#closed.has(id)) this.#toggle(id);
    else if (this.#children(id).length > 0) this.#focus(this.#children(id)[0].id);
  }

  #close(id) {
    if (this.#children(id).length > 0 && !this.#closed.has(id)) this.#toggle(id);
    else if (this.#rows.has(this.store.containers.get(id)?.parent)) this.#focus(this.store.containers.get(id).parent);
  }

  #toggle(id) {
    if (!this.#closed.delete(id)) this.#closed.add(id);
    this.update();
  }

  #focus(id) {
    this.#focused = id;
    this.#setStop();
    this.#rows.get(id).element.focus();
  }

  #choose(id) {
    this.#focused = id;
    this.choose(id);
  }
}

class Row {
  constructor(id, choose, toggle) {
    const open = (event) => {
      event.stopPropagation();
      toggle();
    };
    this.mark = h("span", { class: "mark" });
    this.name = h("span", { class: "row-name" });
    this.state = h("span", { class: "hidden" });
    this.about = h("span", { class: "row-about" });
    this.usage = h("span", { class: "row-usage" });
    this.age = h("span", { class: "row-age" });
    this.spark = new Spark("cpu");
    this.element = h(
      "li",
      { role: "treeitem", class: "row", "data-id": id, onclick: choose },
      h("span", { class: "twist", onclick: open, "aria-hidden": "true" }, icon("open")),
      this.mark,
      h("span", { class: "row-text" }, this.name, this.state, this.about),
      this.spark.element,
      h("span", { class: "row-numbers" }, this.usage, this.age),
    );
  }

  update(container, { level, position, count, series, now }) {
    const kind = condition(container);
    const words = state(container);
    setAttribute(this.element, "data-condition", kind);
    setAttribute(this.element, "aria-level", String(level));
    setAttribute(this.element, "aria-posinset", String(position));
    setAttribute(this.element, "aria-setsize", String(count));
    this.element.style.setProperty("--level", String(level - 1));
    setText(this.name, container.parent === null ? container.id : container.id.slice(container.id.lastIndexOf(".") + 1));
    setText(this.state, kind === "on" ? words : "");
    setText(this.about, kind === "on" ? container.image ?? (container.command ?? "").slice(0, MOST) : words);
    const memory = series.now("memory");
    const isOn = kind === "on" || kind === "between";
    setText(this.usage, isOn && memory !== null ? bytes(memory) : "");
    const since = isOn ? container.launched : container.ended;
    setText(this.age, since === null ? "" : duration(now - since));
    this.spark.element.classList.toggle("off", !isOn);
    if (isOn) this.spark.update(series, 0.05);
  }
}
