// Parts of the page. They are updated in place and never recreated, so that focus and selection are kept.

export const byId = (id) => document.getElementById(id);

// Clones a template. Returns the element and its parts by name.
export function piece(template) {
  const element = byId(template).content.firstElementChild.cloneNode(true);
  const named = [...element.querySelectorAll('[data-is]')].map((part) => [part.dataset.is, part]);
  return { element, ...Object.fromEntries(named) };
}

// Sets a text only if it changed. Otherwise screen readers would repeat it and the selection would be lost.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Shows the full id as a tooltip, and copies it on a click.
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

// Puts the children of a list into this order. Moving the focused child would take its focus away, so the others are
// moved around it.
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
