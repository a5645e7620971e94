/** Makes DOM elements: one function for HTML, one for SVG, and how to replace what a place shows. */

export type Child = Node | string | number | null | undefined | false;

/** Attributes by name; `on…` takes a listener, `class` the class. A false, null or undefined value leaves the attribute out. */
export type Attributes = Record<string, string | number | boolean | null | undefined | ((event: Event) => void)>;

/** An HTML element with attributes and children; texts become text nodes, never markup. */
export function html<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[Name] {
  return filled(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg<Name extends keyof SVGElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: Child[]
): SVGElementTagNameMap[Name] {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

/** Show exactly these children in `place`. */
export function show(place: Element, ...children: Child[]): void {
  place.replaceChildren(...children.filter(isShown).map(asNode));
}

/** Set the text of `place` only when it differs, so that screen readers and selections are left alone. */
export function setText(place: Element, text: string): void {
  if (place.textContent !== text) place.textContent = text;
}

function filled<Made extends Element>(element: Made, attributes: Attributes, children: Child[]): Made {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.filter(isShown).map(asNode));
  return element;
}

function isShown(child: Child): child is Node | string | number {
  return child !== null && child !== undefined && child !== false;
}

function asNode(child: Node | string | number): Node | string {
  return typeof child === "number" ? String(child) : child;
}
