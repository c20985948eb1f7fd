// The end of a log, which grows as the container writes. Its lines are text, whatever is in them.

import { ApiError } from "./api.js";
import { h, icon, setText } from "./dom.js";
import { bytes } from "./format.js";
import { save } from "./files.js";

const CHUNK = 64 * 1024;
/** Bytes that are shown while the log is followed; what comes before is one click away. */
const MOST = 512 * 1024;
const INTERVAL = 1000;
// Sequences that would colour a terminal (ECMA-48), and what else is no text.
const CONTROLS = /\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|\u001b.|[\u0000-\u0008\u000b-\u001f\u007f]/g;

export class Log {
  #path = "";
  #begin = 0;
  #end = 0;
  #decoder = null;
  /** What is shown, in the pieces that it came in: each is `{ size, text }`. */
  #pieces = [];
  #timer = null;
  #isFollowing = true;
  #run = 0;

  constructor(api) {
    this.api = api;
    this.text = document.createTextNode("");
    this.lines = h("pre", { class: "log-lines", tabindex: "0", role: "log", "aria-live": "off", onscroll: () => this.#scrolled() }, this.text);
    this.message = h("p", { class: "empty", hidden: true });
    this.earlier = h("button", { type: "button", class: "plain", hidden: true, onclick: () => this.#showEarlier() });
    this.follow = h("button", { type: "button", "aria-pressed": "true", onclick: () => this.#setFollowing(!this.#isFollowing) }, "Follow");
    this.wrap = h("button", { type: "button", "aria-pressed": "false", onclick: () => this.#toggleWrap() }, "Wrap");
    this.streams = ["stdout", "stderr"].map((name) =>
      h("button", { type: "button", "aria-pressed": "false", onclick: () => this.#choose(name) }, name),
    );
    this.load = h(
      "button",
      { type: "button", class: "plain icon", "aria-label": "Download", title: "Download", onclick: () => save(this.api, this.#path, this) },
      icon("download"),
    );
    this.element = h(
      "section",
      { class: "log" },
      h("div", { class: "tools" }, h("div", { class: "segments", role: "group", "aria-label": "Which output" }, this.streams), this.follow, this.wrap, this.load),
      this.earlier,
      this.lines,
      this.message,
    );
  }

  /** Shows the logs in the sandbox at this path. */
  show(sandbox) {
    if (this.sandbox === sandbox) return;
    this.sandbox = sandbox;
    this.#choose("stdout");
  }

  dispose() {
    this.#run += 1;
    clearTimeout(this.#timer);
  }

  say(text) {
    setText(this.message, text);
    this.message.hidden = text === "";
  }

  #choose(name) {
    this.#path = `${this.sandbox}/${name}`;
    this.streams.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === name)));
    this.lines.setAttribute("aria-label", name);
    this.#restart();
  }

  #restart() {
    this.dispose();
    this.#pieces = [];
    this.#draw();
    this.earlier.hidden = true;
    this.#decoder = new TextDecoder();
    this.#begin = this.#end = -1;
    this.#setFollowing(true);
    this.#tail(this.#run);
  }

  async #tail(run) {
    try {
      if (this.#end < 0) {
        const { size } = await this.api.read(this.#path, 0);
        this.#begin = this.#end = Math.max(0, size - CHUNK);
      }
      while (run === this.#run && (await this.#more(run)));
      if (run === this.#run) this.say(this.text.data === "" ? "Nothing was written here yet." : "");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (run !== this.#run) return;
      this.say({ forbidden: "You may not see this sandbox.", missing: "There is no such file in the sandbox." }[error.kind] ?? error.message);
    }
    if (run === this.#run) this.#timer = setTimeout(() => this.#tail(run), INTERVAL);
  }

  /** Adds what was written; whether there may be more. A file that has become shorter is another one. */
  async #more(run) {
    const { data, size } = await this.api.read(this.#path, this.#end);
    if (run !== this.#run) return false;
    if (size < this.#end) {
      this.#restart();
      return false;
    }
    if (data.length === 0) return false;
    if (this.#isFollowing && size - this.#end > MOST) {
      this.#pieces = []; // It writes faster than anybody reads: what is left out is still in the file.
      this.#begin = this.#end = size - CHUNK;
      return true;
    }
    this.#end += data.length;
    this.#add(data);
    return true;
  }

  #add(data) {
    this.#pieces.push({ size: data.length, text: this.#decoder.decode(data, { stream: true }).replace(CONTROLS, "") });
    while (this.#isFollowing && this.#end - this.#begin > MOST) this.#begin += this.#pieces.shift().size;
    this.#draw();
    this.#showStart();
    if (this.#isFollowing) this.lines.scrollTop = this.lines.scrollHeight;
  }

  #draw() {
    this.text.data = this.#pieces.map(({ text }) => text).join("");
  }

  #showStart() {
    this.earlier.hidden = this.#begin <= 0;
    setText(this.earlier, `Show earlier lines (${bytes(this.#begin)} before these)`);
  }

  async #showEarlier() {
    const run = this.#run;
    const from = Math.max(0, this.#begin - CHUNK);
    this.#setFollowing(false);
    try {
      const { data } = await this.api.read(this.#path, from);
      if (run !== this.#run) return;
      const before = data.subarray(0, this.#begin - from);
      const height = this.lines.scrollHeight;
      this.#pieces.unshift({ size: before.length, text: new TextDecoder().decode(before).replace(CONTROLS, "") });
      this.#draw();
      this.lines.scrollTop += this.lines.scrollHeight - height;
      this.#begin = from;
      this.#showStart();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.say(error.message);
    }
  }

  #setFollowing(isFollowing) {
    this.#isFollowing = isFollowing;
    this.follow.setAttribute("aria-pressed", String(isFollowing));
    if (isFollowing) this.lines.scrollTop = this.lines.scrollHeight;
  }

  #scrolled() {
    const isAtEnd = this.lines.scrollTop + this.lines.clientHeight >= this.lines.scrollHeight - 8;
    if (isAtEnd !== this.#isFollowing) {
      this.#isFollowing = isAtEnd;
      this.follow.setAttribute("aria-pressed", String(isAtEnd));
    }
  }

  #toggleWrap() {
    const isWrapped = this.lines.classList.toggle("wrapped");
    this.wrap.setAttribute("aria-pressed", String(isWrapped));
  }
}
