"use strict";
/* Colours, read from the style sheet so that page and canvas always agree. */
(() => {
  // Paul Tol's "muted" scheme: nine colours that stay apart for colour-blind readers. Colour groups; place and label identify.
  const HUES = ["#332288", "#88ccee", "#44aa99", "#cc6677", "#117733", "#ddcc77", "#882255", "#999933", "#aa4499"];
  const LIFT = [0.42, 0.0, 0.12, 0.12, 0.36, 0.0, 0.42, 0.2, 0.24];

  const parts = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  function mix(colour, other, share) {
    const a = parts(colour), b = parts(other);
    return "#" + a.map((v, i) => Math.round(v + (b[i] - v) * share).toString(16).padStart(2, "0")).join("");
  }

  const theme = { dark: false };
  function read() {
    theme.dark = document.documentElement.dataset.theme === "dark";
    const style = getComputedStyle(document.documentElement);
    for (const name of ["canvas", "panel", "text", "muted", "line", "activation", "inhibition", "grey", "accent"]) {
      theme[name] = style.getPropertyValue(`--${name}`).trim();
    }
    theme.font = style.getPropertyValue("--font").trim();
  }

  const hue = (index) => {
    if (index < 0 || index === null) return theme.grey;
    const at = index % HUES.length;
    return theme.dark ? mix(HUES[at], "#ffffff", LIFT[at]) : HUES[at];
  };
  const ramp = (share) => mix(theme.dark ? "#39414d" : "#e6e8ec", theme.dark ? "#ffb27d" : "#a63603", Math.sqrt(Math.min(1, Math.max(0, share))));

  // Magma in eleven steps, from which maps are interpolated.
  const MAGMA = ["#000004", "#140e36", "#3b0f70", "#641a80", "#8c2981", "#b73779", "#de4968", "#f7705c", "#fe9f6d", "#fecf92", "#fcfdbf"];
  function magma(share) {
    const at = Math.min(1, Math.max(0, share)) * (MAGMA.length - 1), low = Math.min(MAGMA.length - 2, Math.floor(at));
    return parts(mix(MAGMA[low], MAGMA[low + 1], at - low));
  }

  Object.assign(InnerSight, { theme, readTheme: read, hue, ramp, mix, magma });
})();
