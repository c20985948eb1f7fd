// The page: the list at the side, one view beside it (or instead of it, where there is no room), and what is wrong.

import { signIn } from "./actions.js";
import { Api } from "./api.js";
import { ContainerView, TABS, link } from "./container.js";
import { h, icon, setText } from "./dom.js";
import { bytes, duration } from "./format.js";
import { launch } from "./launch.js";
import { MachineView } from "./machine.js";
import { Store } from "./store.js";
import { Tree } from "./tree.js";

const place = (id) => document.getElementById(id);

class Page {
  #view = null;
  #signingIn = null;

  constructor() {
    this.api = new Api();
    this.store = new Store(this.api);
    this.api.askWho = () => this.#signIn();
    this.tree = new Tree(this.store, (id) => this.go(id));
    this.#buildSide();
    this.#buildBar();
    this.store.addEventListener("change", () => this.#update());
    addEventListener("hashchange", () => this.#route());
    document.addEventListener("keydown", (event) => this.#key(event));
    setInterval(() => this.#showTrouble(), 1000);
  }

  start() {
    this.#route();
    this.store.look();
  }

  /** Shows a container, or the machine (null). */
  go(id, tab) {
    location.hash = link(id, tab);
  }

  launch(parent = null) {
    launch(this, parent, (id) => this.go(id));
  }

  #buildSide() {
    this.search = h("input", {
      type: "search",
      placeholder: "Filter",
      "aria-label": "Filter containers",
      "aria-keyshortcuts": "/",
      oninput: () => this.tree.filter(this.search.value),
    });
    this.machine = h("a", { class: "machine", href: "#/", onclick: () => this.#view.element.scrollIntoView() });
    this.machineName = h("span", { class: "row-name" }, "Machine");
    this.machineAbout = h("span", { class: "row-about" });
    this.machine.append(h("span", { class: "row-text" }, this.machineName, this.machineAbout));
    this.nothing = h("p", { class: "empty", hidden: true });
    this.count = h("p", { class: "count" });
    place("side").append(
      this.machine,
      h(
        "div",
        { class: "side-tools" },
        this.search,
        h("button", { type: "button", class: "primary", onclick: () => this.launch() }, icon("plus"), "Launch"),
      ),
      this.tree.element,
      this.nothing,
      this.count,
    );
  }

  #buildBar() {
    const theme = place("theme");
    const show = (name) => {
      theme.replaceChildren(icon(name));
      theme.setAttribute("aria-label", `Colours: ${{ auto: "as the system", light: "light", dark: "dark" }[name]}`);
      theme.title = theme.getAttribute("aria-label");
    };
    show(globalThis.mesocosmTheme.current());
    theme.addEventListener("click", () => show(globalThis.mesocosmTheme.next()));
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault();
      place("main").focus();
    });
  }

  #route() {
    const [id = "", tab = ""] = location.hash.slice(2).split("/").map(decode);
    const isContainer = id !== "";
    if (this.#view === null || this.#view.id !== (isContainer ? id : undefined)) {
      this.#view?.dispose();
      this.#view = isContainer ? new ContainerView(this, id) : new MachineView({ store: this.store, launch: () => this.launch() });
      place("main").replaceChildren(this.#view.element);
      place("main").scrollTop = 0;
    }
    place("panes").dataset.at = isContainer ? "detail" : "list";
    this.#view.open?.(TABS.includes(tab) ? tab : TABS[0]);
    this.tree.select(isContainer ? id : null);
    if (isContainer) this.machine.removeAttribute("aria-current");
    else this.machine.setAttribute("aria-current", "page");
    this.#update();
  }

  #update() {
    const { store } = this;
    this.tree.update();
    this.#view.update();
    this.#showTrouble();
    const { agent, machine, containers } = store;
    document.title = `${this.#view.title === "Machine" ? agent?.hostname ?? "Mesocosm" : this.#view.title} · Mesocosm`;
    setText(place("host"), agent?.hostname ?? "");
    this.#showWho();
    const cpu = store.machineSeries.now("cpu");
    const load = machine === null ? "" : `${cpu === null ? "" : `${Math.round((cpu / machine.cpus) * 100)} % CPU, `}${bytes(machine.mem_used_bytes)} of memory`;
    setText(this.machineAbout, load);
    const running = [...containers.values()].filter(({ state }) => state !== "ENDED").length;
    const hidden = store.endedTotal + running - containers.size;
    setText(this.count, agent === null || containers.size === 0 ? "" : `${running} running, ${store.endedTotal} ended${hidden > 0 ? `, of which the last ${store.endedTotal - hidden} are here` : ""}`);
    this.nothing.hidden = this.tree.size > 0 || agent === null;
    setText(this.nothing, containers.size === 0 ? "No containers yet." : "No container is like that.");
    if (store.trouble?.kind === "unauthorized") this.#signIn();
  }

  #showWho() {
    const { principal } = this.api;
    const who = place("who");
    if (who.dataset.principal === (principal ?? "")) return;
    who.dataset.principal = principal ?? "";
    const leave = () => {
      this.api.signOut();
      this.store.look();
    };
    who.replaceChildren(...(principal === null ? [] : [h("bdi", {}, principal), h("button", { type: "button", class: "plain", onclick: leave }, "Sign out")]));
  }

  async #signIn() {
    this.#signingIn ??= signIn(this).finally(() => (this.#signingIn = null));
    const isDone = await this.#signingIn;
    this.store.look();
    return isDone;
  }

  #showTrouble() {
    const { trouble, answered } = this.store;
    const notice = place("notice");
    const since = answered === null ? "" : ` What is shown is ${duration((Date.now() - answered) / 1000)} old.`;
    const who = this.api.principal === null ? "Not everybody may" : `${this.api.principal} may not`;
    const text =
      trouble === null || trouble.kind === "unauthorized"
        ? ""
        : {
            gone: `The agent does not answer; trying again.${since}`,
            recovering: "The agent takes up the containers of the one before it. This page goes on when it is ready.",
            forbidden: `${who} see the containers here. The access control lists of the agent say who may: get_endpoints for /containers.`,
          }[trouble.kind] ?? `The agent cannot show its containers: ${trouble.message}`;
    setText(notice, text);
    notice.hidden = text === "";
    document.body.dataset.trouble = text === "" ? "" : trouble.kind;
  }

  #key(event) {
    const isTyping = event.target.closest("input, textarea, select, dialog, .xterm") !== null;
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.search.focus();
  }
}

/** A part of the address; what is no such thing is nothing. */
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}

new Page().start();
