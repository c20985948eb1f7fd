// A few things that are so, by their names. A list of words is shown as such, and "Command" as what is typed.

import { h, setText } from "./dom.js";

export function facts(names) {
  const values = new Map(names.map((name) => [name, h("dd", { tabindex: name === "Command" ? "0" : null })]));
  const pairs = new Map([...values].map(([name, value]) => [name, h("div", { class: `fact-${name.toLowerCase().replaceAll(" ", "-")}` }, h("dt", {}, name), value)]));
  return {
    element: h("dl", { class: "facts" }, [...pairs.values()]),
    /** Shows what there is; what is null or empty is not shown. */
    update(known) {
      for (const [name, place] of values) {
        const value = known[name] ?? null;
        const isThere = value !== null && value !== "" && value.length !== 0;
        pairs.get(name).hidden = !isThere;
        if (!isThere) continue;
        if (!Array.isArray(value)) setText(place, value);
        else if (place.dataset.words !== value.join(" ")) {
          place.dataset.words = value.join(" ");
          place.replaceChildren(...value.flatMap((word) => [h("span", { class: "word" }, word), " "]));
        }
      }
    },
  };
}
