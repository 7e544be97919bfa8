// What to do: sentences, in which a command between backticks can be copied.

import { copyButton } from "./copy.js";
import { $, make, put } from "./dom.js";

export function advise(hints) {
  const list = $("hints");
  hints.forEach((hint, index) => {
    if (!list.children[index]) list.append(make("li"));
    write(list.children[index], hint);
  });
  while (list.children.length > hints.length) list.lastChild.remove();
  $("all-well").hidden = hints.length > 0;
  const count = hints.length === 1 ? "1 thing is wrong." : `${hints.length} things are wrong.`;
  put($("announcement"), hints.length ? count : "All is well.");
}

function write(item, hint) {
  if (item.dataset.hint === hint) return; // a button in it may have the focus
  item.dataset.hint = hint;
  const parts = hint.split("`");
  if (parts.length % 2 === 0) parts.splice(-2, 2, parts.slice(-2).join("`")); // one without its counterpart
  item.replaceChildren(...parts.flatMap((part, place) => (
    place % 2 ? [command(part)] : [part]
  )));
}

function command(text) {
  const element = make("span", "command");
  element.append(make("code", "", text), copyButton(text, () => text));
  return element;
}
