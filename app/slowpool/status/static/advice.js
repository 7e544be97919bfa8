// What to do: sentences, in which a command between backticks can be copied.

import { copyButton } from "./copy.js";
import { $, make, put } from "./dom.js";

let hints = null; // there are no figures yet
let isCurrent = true; // the figures

export function advise(newest) {
  hints = newest;
  const list = $("hints");
  hints.forEach((hint, index) => {
    if (!list.children[index]) list.append(make("li"));
    write(list.children[index], hint);
  });
  while (list.children.length > hints.length) list.lastChild.remove();
  sayHowMany();
}

// That all is well is only said while the figures are current.
export function trust(value) {
  isCurrent = value;
  sayHowMany();
}

function sayHowMany() {
  const wrong = hints && isCurrent ? hints.length : null;
  $("all-well").hidden = wrong !== 0;
  const count = wrong === 1 ? "1 thing is wrong." : `${wrong} things are wrong.`;
  put($("announcement"), wrong === null ? "" : wrong ? count : "All is well.");
}

// What stays the same is left alone: a button in it may have the focus.
function write(item, hint) {
  const parts = hint.split("`");
  if (parts.length % 2 === 0) parts.splice(-2, 2, parts.slice(-2).join("`")); // one without its counterpart
  const isCommand = (place) => place % 2 === 1;
  if (item.childNodes.length !== parts.length) {
    item.replaceChildren(...parts.map((part, place) => (isCommand(place) ? command(part) : part)));
  }
  [...item.childNodes].forEach((node, place) => {
    if (!isCommand(place)) put(node, parts[place]);
    else if (node.firstChild.textContent !== parts[place]) node.replaceWith(command(parts[place]));
  });
}

function command(text) {
  const element = make("span", "command");
  element.append(make("code", "", text), copyButton(text, () => text));
  return element;
}
