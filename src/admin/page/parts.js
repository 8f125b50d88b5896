// Pieces of the page that are updated in place and never replaced, so that they keep the focus.

export const byId = (id) => document.getElementById(id);

// A piece from its template, with its parts by name.
export function piece(template) {
  const element = byId(template).content.firstElementChild.cloneNode(true);
  const named = [...element.querySelectorAll('[data-is]')].map((part) => [part.dataset.is, part]);
  return { element, ...Object.fromEntries(named) };
}

// Sets a text only if it differs: setting it again would make screen readers repeat it, and lose the selection.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Shows the whole of an id where only its beginning stands, and copies it on a click.
export function copies(element, id) {
  element.title = `${id} (click to copy)`;
  element.onclick = () => navigator.clipboard?.writeText(id);
}

// Fills a <dl>.
export function define(list, entries) {
  const text = JSON.stringify(entries);
  if (list.dataset.text === text) return;
  list.dataset.text = text;
  list.replaceChildren(...entries.flatMap(([name, value]) => [node('dt', name), node('dd', value)]));
}

export function node(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

// Brings the children of a list into this order. The one that has the focus is not moved, which would take it away: the
// others are moved around it.
export function arrange(list, wanted) {
  const held = wanted.findIndex((element) => element.contains(document.activeElement));
  const before = wanted.slice(0, Math.max(held, 0));
  const after = wanted.slice(held + 1);
  for (const [index, element] of before.entries()) {
    if (list.children[index] !== element) list.insertBefore(element, list.children[index]);
  }
  const from = wanted.length - after.length;
  for (const [index, element] of after.entries()) {
    if (list.children[from + index] !== element) list.insertBefore(element, list.children[from + index] ?? null);
  }
}
