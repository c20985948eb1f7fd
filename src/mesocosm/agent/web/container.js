// The view of one container: what it is and does, its log, its files, and a terminal into it.

import { h, icon, setAttribute, setText } from "./dom.js";
import { kill, remove } from "./actions.js";
import { ContainerCharts } from "./charts.js";
import { facts } from "./facts.js";
import { Files } from "./files.js";
import { condition, duration, moment, state } from "./format.js";
import { Log } from "./log.js";
import { Terminal } from "./terminal.js";

/** Whether others can be launched in it, sessions too: Docker nests none. */
const nests = ({ type }) => type !== "DOCKER";

export const TABS = ["overview", "log", "files", "terminal"];
const TITLES = { overview: "Overview", log: "Log", files: "Files", terminal: "Terminal" };

export class ContainerView {
  #container = null;
  #tab = null;
  #parts = new Map();
  #wasThere = false;

  /** `page` has `api`, `store`, `launch(parent)` and `go(id, tab)`. */
  constructor(page, id) {
    this.page = page;
    this.id = id;
    this.title = id;
    this.#build();
  }

  #build() {
    const { page, id } = this;
    const button = (name, attributes, act) => h("button", { type: "button", ...attributes, onclick: act }, name);
    this.state = h("span", { class: "chip" });
    this.killing = button("Kill…", { class: "danger-plain" }, () => kill(page, this.#container));
    this.removing = button("Remove…", { class: "danger-plain" }, () => remove(page, this.#container).then((done) => done && page.go(null)));
    this.nesting = button("Launch inside…", {}, () => page.launch(id));
    this.note = h("p", { class: "note", role: "status", hidden: true });
    this.tabs = TABS.map((name) =>
      h("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "tab-panel", onclick: () => page.go(id, name) }, TITLES[name]),
    );
    this.list = h("div", { class: "tabs", role: "tablist", "aria-label": "About the container", onkeydown: (event) => this.#key(event) }, this.tabs);
    this.panel = h("div", { class: "panel", role: "tabpanel", id: "tab-panel" });
    this.gone = h("p", { class: "empty", hidden: true }, "There is no such container: it was removed, or never was here.");
    this.body = h("div", { class: "body" }, this.note, this.list, this.panel);
    const above = id.includes(".") ? h("a", { class: "above", href: link(id.slice(0, id.lastIndexOf("."))) }, "in ", h("bdi", {}, id.slice(0, id.lastIndexOf(".")))) : null;
    this.element = h(
      "article",
      {},
      h(
        "div",
        { class: "head" },
        h("a", { class: "back", href: "#/", "aria-label": "All containers" }, icon("back")),
        h("div", { class: "head-text" }, above, h("h1", {}, h("bdi", {}, id.slice(id.lastIndexOf(".") + 1))), this.state),
        h("div", { class: "head-actions" }, this.nesting, this.killing, this.removing),
      ),
      this.gone,
      this.body,
    );
  }

  /** Shows one of the tabs. */
  open(tab) {
    if (this.#tab === tab) return;
    this.#parts.get(this.#tab)?.pause?.();
    this.#tab = tab;
    this.tabs.forEach((button, index) => {
      setAttribute(button, "aria-selected", String(TABS[index] === tab));
      setAttribute(button, "tabindex", TABS[index] === tab ? "0" : "-1");
    });
    setAttribute(this.panel, "aria-labelledby", `tab-${tab}`);
    this.panel.replaceChildren(this.#part(tab).element);
    this.#part(tab).resume?.();
    this.update();
  }

  update() {
    const { store } = this.page;
    const container = store.containers.get(this.id) ?? null;
    if (container !== null) this.#container = container;
    this.#wasThere ||= container !== null;
    const isGone = container === null && store.agent !== null;
    this.gone.hidden = !isGone;
    this.body.hidden = this.#container === null || isGone;
    this.killing.hidden = this.removing.hidden = this.nesting.hidden = true;
    this.state.hidden = this.#container === null || isGone;
    if (isGone || this.#container === null) return;
    const kind = condition(this.#container);
    setText(this.state, state(this.#container));
    setAttribute(this.state, "data-condition", kind);
    this.killing.hidden = kind !== "on";
    this.nesting.hidden = kind !== "on" || !nests(this.#container);
    this.tabs[TABS.indexOf("terminal")].hidden = !nests(this.#container);
    this.removing.hidden = this.#container.state !== "ENDED";
    this.#showNote(kind);
    this.#part(this.#tab ?? "overview").update?.(this.#container);
  }

  /** How it ended, and why, if the agent knows. */
  #showNote(kind) {
    const { message, reason, ended } = this.#container;
    const hasEnded = kind === "ok" || kind === "failed";
    this.note.hidden = !hasEnded;
    if (!hasEnded) return;
    const when = ended === null ? "" : `, ${duration(this.page.store.now() - ended)} ago`;
    const why = message ?? reason;
    const how = this.#container.status === null ? "Ended" : `Ended with ${state(this.#container)}`;
    setText(this.note, `${how}${when}.${why ? ` ${why}` : ""}`);
    setAttribute(this.note, "data-condition", kind);
  }

  dispose() {
    for (const part of this.#parts.values()) part.dispose();
  }

  #part(tab) {
    let part = this.#parts.get(tab);
    if (part === undefined) {
      const { page, id } = this;
      const make = {
        overview: () => new Overview(page.store),
        log: () => new Sandboxed(new Log(page.api)),
        files: () => new Sandboxed(new Files(page.api)),
        terminal: () => new Terminal(page.api, id),
      }[tab];
      this.#parts.set(tab, (part = make()));
    }
    return part;
  }

  #key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const shown = this.tabs.filter(({ hidden }) => !hidden);
    const next = shown[(shown.indexOf(this.tabs[TABS.indexOf(this.#tab)]) + step + shown.length) % shown.length];
    this.page.go(this.id, TABS[this.tabs.indexOf(next)]);
    next.focus();
  }
}

/** The address of a view. */
export function link(id, tab = "overview") {
  if (id === null) return "#/";
  return `#/${encodeURIComponent(id)}${tab === "overview" ? "" : `/${tab}`}`;
}

class Overview {
  constructor(store) {
    this.store = store;
    this.charts = new ContainerCharts();
    this.facts = facts(["Command", "Image", "Root", "User", "Launched", "Ended", "Process", "Addresses", "Executor", "Sandbox", "Isolators"]);
    this.element = h("div", { class: "overview" }, this.charts.element, this.facts.element);
  }

  update(container) {
    const series = this.store.series(container.id);
    const hasEnded = container.state === "ENDED";
    this.charts.element.hidden = hasEnded && series.samples.length === 0;
    const now = hasEnded ? series.latest?.time ?? this.store.now() : this.store.now();
    this.charts.update(series, now, container);
    const { launched, ended } = container;
    this.facts.update({
      Command: container.command,
      Image: container.image,
      Root: container.image === null ? container.rootfs ?? "the files of the host" : null,
      User: container.user ?? "that of the agent",
      Launched: launched === null ? null : `${moment(launched)}, ${duration(this.store.now() - launched)} ago`,
      Ended: ended === null ? null : `${moment(ended)}, after ${duration(ended - launched)}`,
      Process: container.pid === undefined ? null : String(container.pid),
      Addresses: container.addresses ?? [],
      Executor: container.is_executor ? `${container.executor_id} of ${container.framework_id}` : null,
      Sandbox: container.sandbox,
      Isolators: container.isolators ?? [],
    });
  }

  dispose() {}
}

/** A part that shows a sandbox, which is known as soon as the container is. */
class Sandboxed {
  constructor(part) {
    this.part = part;
    this.element = part.element;
  }

  update({ sandbox }) {
    if (typeof sandbox === "string") this.part.show(sandbox);
  }

  pause() {
    this.part.pause?.();
  }

  resume() {
    this.part.resume?.();
  }

  dispose() {
    this.part.dispose();
  }
}
