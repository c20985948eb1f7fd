// Questions that come before what cannot be taken back, and forms.

import { h, setText } from "./dom.js";

let count = 0;

/**
 * Opens a dialog. `run` does what its button says; the dialog closes when that is done, and says what went wrong. With
 * `danger` the other button has the focus. Returns when it is closed, with whether `run` was done.
 */
export function ask({ title, body, label, run, danger = false, cancel = "Cancel", focus = null }) {
  count += 1;
  const heading = `dialog-${count}`;
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const act = h("button", { type: "submit", class: danger ? "danger" : "primary" }, label);
  const back = cancel === null ? null : h("button", { type: "button", onclick: () => dialog.close() }, cancel);
  const form = h("form", { method: "dialog" }, h("h2", { id: heading }, title), body, error, h("div", { class: "actions" }, back, act));
  const dialog = h("dialog", { "aria-labelledby": heading, class: "dialog" }, form);
  let isDone = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    act.disabled = true;
    error.hidden = true;
    try {
      await run();
      isDone = true;
      dialog.close();
    } catch (problem) {
      setText(error, problem.message);
      error.hidden = false;
    } finally {
      act.disabled = false;
    }
  });
  if (cancel === null) dialog.addEventListener("cancel", (event) => event.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
  (focus ?? (danger ? back : act)).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(isDone);
    });
  });
}

/** A field with its name above it, and perhaps a hint below. */
export function field(name, input, hint = null) {
  count += 1;
  input.id = `field-${count}`;
  const about = hint === null ? null : h("small", { id: `hint-${count}` }, hint);
  if (about !== null) input.setAttribute("aria-describedby", about.id);
  return h("div", { class: "field" }, h("label", { for: input.id }, name), input, about);
}
