// One chart: up to two lines over the last five minutes, with the value of now in words and figures beside it.

import { h, svg, setText, setAttribute } from "./dom.js";
import { GAP, SPAN } from "./series.js";
import { duration, tidy } from "./format.js";

const WIDTH = 300;
const HEIGHT = 100;
/** Seconds that it begins with; it grows with what is known, up to SPAN. */
const LEAST_SPAN = 60;
const STEPS = [1, 2, 5, 10];

/** The smallest round number that is no smaller, in a system of `base` (10, or 1024 for bytes). */
function roundUp(value, base) {
  const power = base ** Math.floor(Math.log(value) / Math.log(base));
  const decade = base === 10 ? 1 : 10 ** Math.floor(Math.log10(value / power));
  return power * decade * STEPS.find((step) => step * decade * power >= value);
}

export class Chart {
  #series = null;
  #now = 0;
  #cursor = null;

  /**
   * `lines` are `{ key, name }`: the name of a number in the series, and what it is called if there are two. `least` is
   * the top of the scale where all is smaller.
   */
  constructor({ title, lines, format, least, base = 10, missing = "Not measured" }) {
    this.title = title;
    this.lines = lines;
    this.format = format;
    this.least = least;
    this.base = base;
    this.missing = missing;
    this.#build();
  }

  #build() {
    this.value = h("strong", { class: "chart-value" });
    this.detail = h("span", { class: "chart-detail" });
    this.top = h("span", { class: "chart-top", "aria-hidden": "true" });
    this.bound = svg("path", { class: "chart-limit" });
    this.area = svg("path", { class: "chart-area" });
    this.paths = this.lines.map((_, index) => svg("path", { class: `chart-line chart-line-${index}` }));
    this.rule = svg("path", { class: "chart-cursor" });
    this.plot = h(
      "div",
      {
        class: "chart-plot",
        role: "img",
        tabindex: "0",
        onpointermove: (event) => this.#point(event),
        onpointerleave: () => this.#move(null),
        onblur: () => this.#move(null),
        onkeydown: (event) => this.#key(event),
      },
      svg(
        "svg",
        { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("path", { class: "chart-grid", d: `M0 0.5H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT - 0.5}H${WIDTH}` }),
        this.area,
        this.bound,
        this.paths,
        this.rule,
      ),
      this.top,
    );
    this.readout = h("p", { class: "chart-readout", "aria-live": "polite" });
    this.range = h("span");
    const legend = this.lines.map(({ name }, index) => h("span", { class: `legend legend-${index}` }, name));
    this.element = h(
      "figure",
      { class: "chart" },
      h("figcaption", {}, h("span", { class: "chart-title" }, this.title), this.value, this.detail),
      this.plot,
      h("div", { class: "chart-foot" }, this.lines.length > 1 ? legend : null, this.range, this.readout),
    );
  }

  /** Draws. `limit` is what cannot be exceeded, `detail` a few words beside the value, `now` the time at the right. */
  update(series, now, { limit = null, detail = null } = {}) {
    this.#series = series;
    this.#now = now;
    this.span = Math.min(SPAN, Math.max(LEAST_SPAN, now - (series.samples[0]?.time ?? now)));
    setText(this.range, this.lines.length > 1 ? "" : duration(this.span));
    const values = this.lines.map(({ key }) => series.now(key));
    const isKnown = series.samples.some((sample) => this.lines.some(({ key }) => typeof sample[key] === "number"));
    const isPending = !isKnown && series.samples.length < 2;
    setAttribute(this.element, "data-state", isKnown ? "known" : isPending ? "pending" : "missing");
    const text = isKnown ? this.#text(values) : isPending ? "…" : this.missing;
    setText(this.value, text);
    setText(this.detail, isKnown ? detail ?? (limit === null ? "" : `of ${tidy(this.format(limit))}`) : "");
    this.#draw(limit);
    setAttribute(this.plot, "aria-label", `${this.title}: ${text}. ${isKnown ? this.#summary() : ""}`.trim());
    this.#move(this.#cursor);
  }

  #text(values) {
    const known = this.lines.map(({ name }, index) => [name, values[index]]).filter(([, value]) => value !== null);
    if (known.length === 0) return "—";
    return known.map(([name, value]) => (this.lines.length > 1 ? `${this.format(value)} ${name}` : this.format(value))).join(" · ");
  }

  #summary() {
    const most = this.lines.map(({ key }) => Math.max(...this.#visible().map((sample) => sample[key] ?? 0)));
    return `At most ${this.#text(most)} in the last ${duration(this.span)}.`;
  }

  #visible() {
    return this.#series.samples.filter((sample) => sample.time >= this.#now - this.span);
  }

  #draw(limit) {
    const samples = this.#visible();
    const most = Math.max(0, ...samples.flatMap((sample) => this.lines.map(({ key }) => sample[key] ?? 0)));
    const nearLimit = limit !== null && most > limit / 3;
    const scale = nearLimit ? Math.max(limit, most) : roundUp(Math.max(most * 1.1, this.least), this.base);
    setText(this.top, tidy(this.format(scale)));
    this.x = (time) => WIDTH - ((this.#now - time) / this.span) * WIDTH;
    this.y = (value) => HEIGHT - (value / scale) * HEIGHT;
    this.lines.forEach(({ key }, index) => setAttribute(this.paths[index], "d", this.#line(samples, key)));
    setAttribute(this.area, "d", this.lines.length > 1 ? "" : this.#area(samples, this.lines[0].key));
    setAttribute(this.bound, "d", nearLimit ? `M0 ${this.y(limit).toFixed(1)}H${WIDTH}` : "");
  }

  /** Parts of a line without a gap, each as a list of points. */
  #parts(samples, key) {
    const parts = [];
    let before = null;
    for (const sample of samples) {
      if (typeof sample[key] !== "number") {
        before = null;
        continue;
      }
      if (before === null || sample.time - before > GAP) parts.push([]);
      parts.at(-1).push([this.x(sample.time).toFixed(1), this.y(sample[key]).toFixed(1)]);
      before = sample.time;
    }
    return parts;
  }

  #line(samples, key) {
    return this.#parts(samples, key)
      .map((points) => `M${points.map((point) => point.join(" ")).join("L")}`)
      .join("");
  }

  #area(samples, key) {
    return this.#parts(samples, key)
      .map((points) => `M${points[0][0]} ${HEIGHT}L${points.map((point) => point.join(" ")).join("L")}L${points.at(-1)[0]} ${HEIGHT}Z`)
      .join("");
  }

  // What was at a certain time, by the pointer or by the arrow keys.

  #point(event) {
    const { left, width } = this.plot.getBoundingClientRect();
    this.#move(this.#now - this.span * (1 - (event.clientX - left) / width));
  }

  #key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (steps === undefined || this.#series === null) return;
    event.preventDefault();
    const samples = this.#visible();
    if (samples.length === 0) return;
    const at = this.#cursor === null ? samples.length : samples.indexOf(this.#nearest(samples, this.#cursor));
    this.#move(samples[Math.min(samples.length - 1, Math.max(0, at + steps))].time);
  }

  #nearest(samples, time) {
    return samples.reduce((best, sample) => (Math.abs(sample.time - time) < Math.abs(best.time - time) ? sample : best));
  }

  #move(time) {
    this.#cursor = time;
    const samples = time === null || this.#series === null ? [] : this.#visible();
    if (samples.length === 0) {
      setAttribute(this.rule, "d", "");
      setText(this.readout, "");
      return;
    }
    const sample = this.#nearest(samples, time);
    setAttribute(this.rule, "d", `M${this.x(sample.time).toFixed(1)} 0V${HEIGHT}`);
    const text = this.#text(this.lines.map(({ key }) => sample[key] ?? null));
    setText(this.readout, `${text}, ${duration(this.#now - sample.time)} ago`);
  }
}

/** A line of a few pixels, for a row of the list. */
export class Spark {
  constructor(key) {
    this.key = key;
    this.path = svg("path", { class: "chart-line" });
    this.element = svg("svg", { viewBox: "0 0 48 16", class: "spark", "aria-hidden": "true", preserveAspectRatio: "none" }, this.path);
  }

  update(series, most) {
    const values = series.samples.slice(-30).map((sample) => sample[this.key] ?? 0);
    const top = Math.max(most, ...values);
    const points = values.map((value, index) => `${(48 - (values.length - 1 - index) * 1.65).toFixed(1)} ${(15 - (value / top) * 14).toFixed(1)}`);
    setAttribute(this.path, "d", points.length > 1 ? `M${points.join("L")}` : "");
  }
}
