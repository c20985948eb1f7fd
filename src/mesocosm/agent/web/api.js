// What the agent is asked. A name and a secret are kept in this page only, and sent with each request: no cookie, nothing
// that the browser would send along for the page of somebody else.

/** What did not work: `kind` is "gone", "unauthorized", "forbidden", "missing", "recovering" or "refused". */
export class ApiError extends Error {
  constructor(kind, text) {
    super(text);
    this.kind = kind;
  }
}

const KINDS = { 401: "unauthorized", 403: "forbidden", 404: "missing", 503: "recovering" };
const PATIENCE = 15000;

export class Api {
  #authorization = null;
  principal = null;
  /** Asks who it is, where that has to be known; returns whether somebody said so. */
  askWho = async () => false;

  /** Says who asks from now on. */
  signIn(name, secret) {
    const text = new TextEncoder().encode(`${name}:${secret}`);
    this.#authorization = `Basic ${btoa(String.fromCharCode(...text))}`;
    this.principal = name;
  }

  signOut() {
    this.#authorization = null;
    this.principal = null;
  }

  get isSignedIn() {
    return this.#authorization !== null;
  }

  overview() {
    return this.#json("overview");
  }

  /** A call of the v1 API, whose fields are those of the message of its name. */
  async call(type, fields) {
    const text = await this.#post("api/v1", type, fields);
    return text === "" ? {} : JSON.parse(text)[type.toLowerCase()] ?? {};
  }

  /** A WebSocket that is a terminal: of a session that a call begins, or the one that a call attaches to. */
  async terminal(type, fields) {
    const { ticket } = JSON.parse(await this.#post("terminal", type, fields));
    const url = new URL("terminal/connect", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, ["mesocosm.terminal", ticket]);
    socket.binaryType = "arraybuffer";
    return socket;
  }

  browse(path) {
    return this.#json(`files/browse?path=${encodeURIComponent(path)}`);
  }

  /** Up to 64 kB of a file: `data` are bytes, `size` is that of the file. */
  async read(path, offset) {
    const { data, size } = await this.call("READ_FILE", { path, offset });
    return { data: Uint8Array.from(atob(data ?? ""), (character) => character.charCodeAt(0)), size: size ?? 0 };
  }

  async size(path) {
    return (await this.call("READ_FILE", { path, offset: 0, length: 0 })).size ?? 0;
  }

  /** Where a browser gets the whole file, which asks by itself who wants it if that matters. */
  downloadUrl(path) {
    return `files/download?path=${encodeURIComponent(path)}`;
  }

  async download(path) {
    return (await this.#request(this.downloadUrl(path), { timeout: null })).blob();
  }

  /** An answer that comes as long as it is read. */
  async stream(url, signal) {
    return (await this.#request(url, { timeout: null, signal })).body.getReader();
  }

  async #post(url, type, fields) {
    const options = {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ type, [type.toLowerCase()]: fields }),
    };
    try {
      return await (await this.#request(url, options)).text();
    } catch (error) {
      if (error.kind !== "unauthorized" || !(await this.askWho())) throw error;
      return (await this.#request(url, options)).text();
    }
  }

  async #json(url) {
    return (await this.#request(url)).json();
  }

  async #request(url, { timeout = PATIENCE, headers = {}, signal = null, ...options } = {}) {
    const signals = [signal, timeout === null ? null : AbortSignal.timeout(timeout)].filter((each) => each !== null);
    let answer;
    try {
      answer = await fetch(url, {
        ...options,
        headers: this.#authorization === null ? headers : { ...headers, Authorization: this.#authorization },
        credentials: "omit", // Who asks is said above; and so the browser does not open a window of its own on a 401.
        cache: "no-store",
        redirect: "error",
        signal: AbortSignal.any(signals),
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("gone", "The agent does not answer");
    }
    if (answer.ok) return answer;
    const text = (await answer.text().catch(() => "")).trim();
    throw new ApiError(KINDS[answer.status] ?? "refused", text || `${answer.status} ${answer.statusText}`);
  }
}
