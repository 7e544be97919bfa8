// Elements of the page. Whatever the server sends is inserted as text, never as HTML.

export const $ = (id) => document.getElementById(id);

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function button(text, className, act) {
  const element = make("button", className, text);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

// Unchanged text is left alone: the browser has nothing to lay out, and a selection stays.
export function put(element, value) {
  const text = String(value);
  if (element.textContent !== text) element.textContent = text;
}

// A screen reader reads it when it changes.
export const announce = (text) => put($("said"), text);

export function fill(list, figures, values) {
  for (const [index, [name, show]] of figures.entries()) {
    let entry = list.children[index];
    if (!entry) {
      entry = make("div");
      entry.append(make("dt", "", name), make("dd"));
      list.append(entry);
    }
    put(entry.lastChild, show(values));
  }
}
