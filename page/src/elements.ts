// The elements of index.html by their ids, and new ones.

type Kind<T extends HTMLElement> = new () => T;

/** The element with an id; that it is there and of this kind is the page's own promise. */
export function element(id: string): HTMLElement;
export function element<T extends HTMLElement>(id: string, kind: Kind<T>): T;
export function element(id: string, kind: Kind<HTMLElement> = HTMLElement): HTMLElement {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`index.html has no ${kind.name} #${id}`);
  return found;
}

/** A new element with attributes and content. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...content: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...content);
  return made;
}
