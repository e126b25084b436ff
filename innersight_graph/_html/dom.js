"use strict";
/* Building elements and words. Text always goes in as text: nothing on this page is parsed as HTML. */
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const MINUS = "−";

  function fill(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key === "style") Object.assign(node.style, value);
      else node.setAttribute(key, value === true ? "" : String(value));
    }
    for (const child of children.flat(3)) {
      if (child === null || child === undefined || child === false) continue;
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return node;
  }

  const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
  const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

  function clip(text, length) {
    const letters = Array.from(String(text));
    return letters.length > length ? letters.slice(0, length - 1).join("") + "…" : letters.join("");
  }

  /* Names of modules differ at their end: cut the beginning, before a name where one begins early in what is left. */
  function tail(text, length) {
    const letters = Array.from(String(text));
    if (letters.length <= length) return letters.join("");
    const kept = letters.slice(1 - length).join(""), dot = kept.indexOf(".");
    return "…" + (dot >= 0 && dot < kept.length / 3 ? kept.slice(dot + 1) : kept);
  }

  function number(value, digits = 2) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    return value.toFixed(digits).replace("-", MINUS);
  }

  /* Accuracy changes are shown in percentage points, with the sign of the change: closing a helpful group is negative. */
  function points(drop, digits = 1) {
    if (drop === null || drop === undefined || !Number.isFinite(drop)) return "–";
    const value = -100 * drop;
    const text = Math.abs(value).toFixed(digits);
    return Number(text) === 0 ? text : (value > 0 ? "+" : MINUS) + text;
  }

  const count = (value) => Number(value).toLocaleString("en-US");
  const percent = (share) => (share >= 0.9995 ? "100" : (100 * share).toFixed(share < 0.1 ? 1 : 0)) + " %";
  function pValue(p) {
    if (p === null || p === undefined || !Number.isFinite(p)) return "–";
    return p < 0.001 ? "< .001" : p.toFixed(p < 0.1 ? 3 : 2).replace(/^0/, "");
  }

  Object.assign(InnerSight, { el, svg, clip, tail, number, points, count, percent, pValue });
})();
