// The end of a log, which grows as the container writes. Its lines are text, whatever is in them.

import { ApiError } from "./api.js";
import { h, icon, setText } from "./dom.js";
import { bytes } from "./format.js";
import { save } from "./files.js";

const CHUNK = 64 * 1024;
/** Bytes that are shown while the log is followed; what comes before is one click away. */
const MOST = 512 * 1024;
/** Bytes in a second that are more than can be shown. */
const FAST = 4 * 1024 * 1024;
/** Milliseconds before it is tried again. */
const PAUSE = 1000;
// Sequences that would colour a terminal (ECMA-48), and what else is no text.
const CONTROLS = /\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|\u001b.|[\u0000-\u0008\u000b-\u001f\u007f]/g;

export class Log {
  #path = "";
  #begin = 0;
  #end = 0;
  #decoder = null;
  /** What is shown, in the pieces that it came in: each is `{ size, text }`. */
  #pieces = [];
  #isFollowing = true;
  #isDrawing = false;
  #isShown = true;
  /** Ends what is followed now. */
  #run = new AbortController();

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
    this.looked = () => {
      if (document.hidden) this.#run.abort();
      else if (this.#isShown) this.resume();
    };
    document.addEventListener("visibilitychange", this.looked);
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

  /** Goes on from where it was. */
  resume() {
    this.#isShown = true;
    if (this.#run.signal.aborted && this.sandbox !== undefined && !document.hidden) this.#follow();
  }

  /** Asks for nothing more: who does not look shall not keep a connection, of which a browser has few. */
  pause() {
    this.#isShown = false;
    this.#run.abort();
  }

  dispose() {
    this.pause();
    document.removeEventListener("visibilitychange", this.looked);
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
    this.#pieces = [];
    this.#decoder = new TextDecoder();
    this.#begin = this.#end = -1;
    this.#setFollowing(true);
    this.#draw();
    this.#follow();
  }

  async #follow() {
    this.#run.abort();
    this.#run = new AbortController();
    const { signal } = this.#run;
    while (!signal.aborted) {
      try {
        await this.#place(signal);
        await this.#read(signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#fail(error);
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }

  /** Decides where to go on: near the end at first, and when the file has become a shorter one. */
  async #place(signal) {
    const size = await this.api.size(this.#path);
    signal.throwIfAborted();
    if (this.#end >= 0 && this.#end <= size && (size - this.#end <= MOST || !this.#isFollowing)) return;
    this.#pieces = [];
    this.#begin = this.#end = Math.max(0, size - CHUNK);
    this.#draw();
  }

  async #read(signal) {
    const reader = await this.api.stream(`files/follow?path=${encodeURIComponent(this.#path)}&offset=${this.#end}`, signal);
    this.#draw();
    let came = 0;
    let since = performance.now();
    for (;;) {
      const { value, done } = await reader.read();
      signal.throwIfAborted();
      if (done) return;
      this.#add(value);
      came += value.length;
      if (performance.now() - since < 1000) continue;
      if (came > FAST && this.#isFollowing) return void reader.cancel(); // What nobody can read is left out: it is still in the file.
      came = 0;
      since = performance.now();
    }
  }

  #fail(error) {
    if (error instanceof TypeError) return; // The connection is lost.
    if (!(error instanceof ApiError)) throw error;
    const texts = { forbidden: "You may not see this sandbox.", missing: "There is no such file in the sandbox.", gone: "" };
    this.say(texts[error.kind] ?? error.message);
  }

  #add(data) {
    this.#end += data.length;
    this.#pieces.push({ size: data.length, text: this.#decoder.decode(data, { stream: true }).replace(CONTROLS, "") });
    while (this.#isFollowing && this.#pieces.length > 1 && this.#end - this.#begin > MOST) this.#begin += this.#pieces.shift().size;
    this.#draw();
  }

  /** Shows what there is, once for all that comes between two frames. */
  #draw() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.#drawText();
      if (this.#end >= 0) this.say(this.#end === 0 ? "Nothing was written here yet." : "");
      this.#showStart();
      if (this.#isFollowing) this.lines.scrollTop = this.lines.scrollHeight;
    });
  }

  #drawText() {
    this.text.data = this.#pieces.map(({ text }) => text).join("");
  }

  #showStart() {
    this.earlier.hidden = this.#begin <= 0;
    setText(this.earlier, `Show earlier lines (${bytes(this.#begin)} before these)`);
  }

  async #showEarlier() {
    const { signal } = this.#run;
    const from = Math.max(0, this.#begin - CHUNK);
    this.#setFollowing(false);
    try {
      const { data } = await this.api.read(this.#path, from);
      if (signal.aborted) return;
      const before = data.subarray(0, this.#begin - from);
      const height = this.lines.scrollHeight;
      this.#pieces.unshift({ size: before.length, text: new TextDecoder().decode(before).replace(CONTROLS, "") });
      this.#drawText();
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
