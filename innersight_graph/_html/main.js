"use strict";
/* Puts the page together, in an order that gives the first picture early. */
(() => {
  const { data, state } = InnerSight;
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const wanted = () => (data.theme === "auto" ? (prefersDark.matches ? "dark" : "light") : data.theme);
  document.documentElement.classList.add("js");
  InnerSight.controls.setTheme(wanted());
  prefersDark.addEventListener("change", () => {
    if (data.theme !== "auto") return;
    InnerSight.controls.setTheme(wanted());
    InnerSight.update({ theme: wanted() });
  });
  InnerSight.controls.start();
  InnerSight.graph.start();
  InnerSight.panel.render(null);
  InnerSight.tabs.render(null);
  InnerSight.onChange(InnerSight.panel.render);
  InnerSight.onChange(InnerSight.tabs.render);
  InnerSight.onChange((changed) => {
    if (changed.has("tab") && state.tab === "graph") InnerSight.graph.refresh(null);
  });
  InnerSight.follow();
  document.body.dataset.ready = "true";
  InnerSight.readyAt = performance.now();
})();
