// A terminal in a container: xterm.js, which is part of the installation, at the end of a WebSocket. What it shows is
// drawn as characters by that library; the sequences of a program can change colours, but make no elements.

import { identity } from "./actions.js";
import { ApiError } from "./api.js";
import { field } from "./dialog.js";
import { h, setText } from "./dom.js";

const SHELL = "if command -v bash > /dev/null; then exec bash; else exec sh; fi";
const LINES = 5000;
const ENDS = "Its command ends when this page is closed, or shows another container.";

let library = null;

/** The library, when somebody wants a terminal first. null: it is not installed. */
async function load() {
  library ??= Promise.all([import("./vendor/xterm.mjs"), import("./vendor/addon-fit.mjs")]).then(
    ([{ Terminal: Screen }, { FitAddon }]) => {
      document.head.append(h("link", { rel: "stylesheet", href: "web/vendor/xterm.css" }));
      return { Screen, FitAddon };
    },
    () => null,
  );
  return library;
}

export class Terminal {
  #container = null;
  #socket = null;
  #screen = null;
  #fit = null;
  #said = "";

  constructor(api, id) {
    this.api = api;
    this.id = id;
    const input = (attributes) => h("input", { type: "text", class: "mono", spellcheck: "false", autocomplete: "off", autocapitalize: "off", ...attributes });
    this.command = input({ placeholder: "bash, or else sh" });
    this.user = input({ placeholder: "root" });
    this.button = h("button", { type: "submit", class: "primary" }, "Open");
    const user = field("User", this.user);
    user.classList.add("short");
    this.own = h("button", { type: "button", hidden: true, onclick: () => this.#open(true) }, "Attach to its own");
    this.form = h("form", { class: "tools", onsubmit: (event) => this.#submit(event) }, field("Command", this.command), user, this.button, this.own);
    this.place = h("div", { class: "screen", hidden: true });
    this.message = h("p", { class: "empty", role: "status" });
    this.about = h("span");
    this.hint = h("p", { class: "hint", hidden: true }, h("kbd", {}, "F6"), " leaves the terminal. ", this.about);
    this.element = h("section", { class: "terminal" }, this.form, this.place, this.message, this.hint);
    this.resizing = new ResizeObserver(() => this.#resize());
    this.coloring = () => this.#color();
    addEventListener("mesocosm-theme", this.coloring);
  }

  update(container) {
    const isFirst = this.#container === null;
    this.#container = container;
    if (isFirst && container.user) this.user.value = container.user;
    this.button.disabled = container.state !== "RUNNING" && this.#socket === null;
    this.own.hidden = !container.has_terminal || container.state !== "RUNNING" || this.#socket !== null;
    this.form.hidden = container.type === "DOCKER";
    if (this.form.hidden) {
      this.say("Docker has made this container, and opens terminals in it by docker exec.", "");
    } else if (this.#said === "" && this.#socket === null) {
      const also = container.has_terminal ? ", or attach to the one that it has itself" : "";
      this.say(container.state === "RUNNING" ? `Run a command in this container, in a new terminal${also}.` : "Only a container that runs has room for a terminal.", "");
    }
  }

  /** Tells something below the screen; `said` is kept until something else happens. */
  say(text, said = text) {
    this.#said = said;
    setText(this.message, text);
    this.message.hidden = text === "";
  }

  dispose() {
    removeEventListener("mesocosm-theme", this.coloring);
    this.resizing.disconnect();
    this.#socket?.close();
    this.#screen?.dispose();
  }

  #submit(event) {
    event.preventDefault();
    if (this.#socket === null) this.#open();
    else this.#socket.close();
  }

  /** A terminal beside the command of the container, or the one that this has itself. */
  async #open(isItsOwn = false) {
    this.button.disabled = this.own.disabled = true;
    this.say("Opening…");
    try {
      const found = await load();
      if (found === null) {
        this.say("The terminal is not part of this installation: xterm.js was not to be had when it was made. Install Mesocosm where npm is.");
        return;
      }
      this.#show(found);
      setText(this.about, isItsOwn ? `It is that of ${this.id} itself, which goes on when this page is closed.` : ENDS);
      this.#socket = isItsOwn
        ? await this.api.terminal("ATTACH_CONTAINER_OUTPUT", { container_id: identity(this.id) })
        : await this.api.terminal("LAUNCH_NESTED_CONTAINER_SESSION", this.#request());
      this.own.hidden = true;
      this.#connect();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.say(error.kind === "forbidden" ? "You may open no terminal here." : error.message);
    } finally {
      this.button.disabled = this.own.disabled = false;
    }
  }

  #request() {
    const name = `terminal-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
    const command = { shell: true, value: this.command.value.trim() || SHELL };
    if (this.user.value.trim() !== "") command.user = this.user.value.trim();
    command.environment = { variables: [{ name: "TERM", type: "VALUE", value: "xterm-256color" }] };
    const size = { rows: this.#screen.rows, columns: this.#screen.cols };
    return {
      container_id: { value: name, parent: identity(this.id) },
      command,
      container: { type: "MESOS", tty_info: { window_size: size } },
    };
  }

  #show({ Screen, FitAddon }) {
    this.#screen?.dispose();
    this.place.hidden = this.hint.hidden = false;
    const style = getComputedStyle(document.documentElement);
    this.#screen = new Screen({
      fontFamily: style.getPropertyValue("--mono"),
      fontSize: 13,
      scrollback: LINES,
      cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      minimumContrastRatio: 4.5,
    });
    this.#fit = new FitAddon();
    this.#screen.loadAddon(this.#fit);
    this.#screen.open(this.place);
    this.#screen.textarea.setAttribute("aria-label", `Terminal in ${this.id}`);
    this.#screen.attachCustomKeyEventHandler((event) => {
      if (event.key !== "F6") return true;
      this.button.focus();
      return false;
    });
    this.#screen.onData((text) => this.#send(new TextEncoder().encode(text)));
    this.#screen.onBinary((text) => this.#send(Uint8Array.from(text, (character) => character.charCodeAt(0))));
    this.#screen.onResize(({ rows, cols }) => this.#send(JSON.stringify({ rows, columns: cols })));
    this.#color();
    this.#fit.fit();
    this.resizing.observe(this.place);
  }

  #connect() {
    const socket = this.#socket;
    socket.addEventListener("open", () => {
      this.say("", "open");
      setText(this.button, "Close");
      const { rows, cols: columns } = this.#screen;
      this.#send(JSON.stringify({ rows, columns })); // One that is attached to had another size.
      this.#resize();
      this.#screen.focus();
    });
    socket.addEventListener("message", ({ data }) => {
      if (typeof data === "string") this.#hear(JSON.parse(data));
      else this.#screen.write(new Uint8Array(data));
    });
    socket.addEventListener("close", () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      setText(this.button, "Open");
      if (this.#said === "open" || this.#said === "Opening…") this.say("The terminal is closed.");
      this.button.focus();
    });
  }

  /** What the agent says besides: how the command has ended, or what is wrong. */
  #hear({ error, exit_status: code }) {
    if (error !== undefined) this.say(error);
    else this.say(code === null ? "The command has ended." : `The command has ended, with exit status ${code}.`);
  }

  #send(data) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(data);
  }

  #resize() {
    if (this.#screen !== null && this.place.offsetParent !== null) this.#fit.fit();
  }

  #color() {
    if (this.#screen === null) return;
    const probe = h("span", { class: "probe" });
    this.place.append(probe);
    const { color, backgroundColor, outlineColor, caretColor } = getComputedStyle(probe);
    this.#screen.options.theme = { foreground: color, background: backgroundColor, cursor: caretColor, cursorAccent: backgroundColor, selectionBackground: outlineColor };
    probe.remove();
  }
}
