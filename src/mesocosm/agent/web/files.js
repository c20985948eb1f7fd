// The sandbox: its directories, and the beginning of its files. Names and contents are the container's, and only text.

import { ApiError } from "./api.js";
import { h, icon, setText } from "./dom.js";
import { bytes, moment } from "./format.js";

const BINARY = /\u0000/;
const MOST_ROWS = 1000;

/** Has the browser save a file. With a password the page gets it first, as the browser does not know that. */
export async function save(api, path, place) {
  const link = h("a", { download: path.slice(path.lastIndexOf("/") + 1) });
  try {
    link.href = api.isSignedIn ? URL.createObjectURL(await api.download(path)) : api.downloadUrl(path);
    link.click();
    if (link.href.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    place.say(error.message);
  }
}

export class Files {
  #run = 0;

  constructor(api) {
    this.api = api;
    this.crumbs = h("nav", { class: "crumbs", "aria-label": "Directory" });
    this.message = h("p", { class: "empty", hidden: true });
    this.body = h("div", { class: "files-body" });
    this.refresh = h("button", { type: "button", onclick: () => this.#open(this.#path) }, "Refresh");
    this.element = h("section", { class: "files" }, h("div", { class: "tools" }, this.crumbs, this.refresh), this.body, this.message);
  }

  #path = "";

  show(sandbox) {
    if (this.sandbox === sandbox) return;
    this.sandbox = sandbox;
    this.#open(sandbox);
  }

  dispose() {
    this.#run += 1;
  }

  say(text) {
    setText(this.message, text);
    this.message.hidden = text === "";
  }

  async #open(path, isFile = false) {
    this.#run += 1;
    const run = this.#run;
    this.#path = path;
    this.refresh.hidden = isFile;
    this.#showCrumbs(path);
    try {
      const content = isFile ? await this.#file(path) : await this.#directory(path);
      if (run !== this.#run) return;
      this.body.replaceChildren(...content);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (run !== this.#run) return;
      this.body.replaceChildren();
      this.say({ forbidden: "You may not see this sandbox.", missing: "It is not there any more." }[error.kind] ?? error.message);
    }
  }

  #showCrumbs(path) {
    const names = path.slice(this.sandbox.length).split("/").filter((name) => name !== "");
    const parts = [["sandbox", this.sandbox]];
    for (const name of names) parts.push([name, `${parts.at(-1)[1]}/${name}`]);
    const crumb = ([name, place], index) =>
      index === parts.length - 1
        ? h("bdi", { class: "crumb", "aria-current": "page" }, name)
        : h("button", { type: "button", class: "crumb plain", onclick: () => this.#open(place) }, h("bdi", {}, name));
    this.crumbs.replaceChildren(...parts.map(crumb));
  }

  async #directory(path) {
    const found = await this.api.browse(path);
    found.sort((left, right) => (right.mode[0] === "d") - (left.mode[0] === "d") || left.path.localeCompare(right.path));
    this.say(found.length === 0 ? "This directory is empty." : "");
    if (found.length === 0) return [];
    const more = found.length - MOST_ROWS;
    const table = h(
      "table",
      {},
      h("thead", {}, h("tr", {}, ["Name", "Size", "Changed", "Mode", "Owner"].map((name) => h("th", { scope: "col" }, name)), h("td"))),
      h("tbody", {}, found.slice(0, MOST_ROWS).map((file) => this.#row(path, file))),
    );
    return more > 0 ? [table, h("p", { class: "empty" }, `${more} more are not shown.`)] : [table];
  }

  #row(directory, { path, size, mtime, mode, uid }) {
    const name = path.slice(directory.length + 1);
    const isDirectory = mode[0] === "d";
    const isRegular = mode[0] === "-";
    const shown = [icon(isDirectory ? "folder" : "file"), h("bdi", {}, name)];
    const entry =
      isDirectory || isRegular
        ? h("button", { type: "button", class: "plain file", onclick: () => this.#open(path, isRegular) }, shown)
        : h("span", { class: "file", title: "No regular file" }, shown);
    const load = h("button", { type: "button", class: "plain icon", "aria-label": `Download ${name}`, onclick: () => save(this.api, path, this) }, icon("download"));
    return h(
      "tr",
      {},
      h("td", {}, entry),
      h("td", { class: "number" }, isDirectory ? "" : bytes(size)),
      h("td", {}, h("time", {}, moment(mtime))),
      h("td", { class: "mono" }, mode),
      h("td", {}, uid),
      h("td", {}, isRegular && load),
    );
  }

  async #file(path) {
    const { data, size } = await this.api.read(path, 0);
    const text = new TextDecoder().decode(data);
    const about = h("p", { class: "file-about" }, `${bytes(size)}${size > data.length ? `, of which the first ${bytes(data.length)}` : ""} `);
    const load = h("button", { type: "button", onclick: () => save(this.api, path, this) }, "Download");
    this.say("");
    if (size === 0) this.say("This file is empty.");
    if (BINARY.test(text)) this.say("This is no text. Download it to see what it is.");
    const content = size === 0 || BINARY.test(text) ? null : h("pre", { class: "code", tabindex: "0", "aria-label": "Content" }, text);
    return [h("div", { class: "tools" }, about, load), ...(content === null ? [] : [content])];
  }
}
