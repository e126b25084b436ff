"use strict";
/* The one place that knows what is shown. Everything that changes goes through update(); the address follows it. */
(() => {
  const first = InnerSight.data;
  const state = {
    scene: 0, view: first.view, tab: "graph", selected: [], neuron: null, hover: null, closing: null, colour: "community",
    activation: true, inhibition: true, threshold: 0, hidden: new Set(), sharedScale: true, picture: null,
  };
  const listeners = [];

  const scene = () => InnerSight.scenes[state.scene];

  function address() {
    const parts = [];
    const ids = state.selected.map((i) => scene().boxes[i].id);
    if (state.neuron !== null) parts.push(scene().neuronId(state.neuron));
    else if (ids.length) parts.push(ids.join("+"));
    if (state.tab !== "graph") parts.push(`tab=${state.tab}`);
    if (state.scene) parts.push(`scene=${state.scene}`);
    if (state.view !== first.view) parts.push(`view=${state.view}`);
    return parts.join("&");
  }

  /* Reads "#L1c7+L1c3&tab=compare&scene=1"; whatever it does not understand is ignored. */
  function parse(hash) {
    const next = { scene: 0, view: first.view, tab: "graph", selected: [], neuron: null };
    const parts = decodeURIComponent(hash.replace(/^#/, "")).split("&");
    for (const part of parts) {
      const [key, value] = part.split("=");
      if (key === "scene" && Number(value) < InnerSight.scenes.length && Number(value) >= 0) next.scene = Math.floor(Number(value));
      else if (key === "tab" && document.getElementById(`tab-${value}`)) next.tab = value;
      else if (key === "view" && (value === "neurons" || value === "communities")) next.view = value;
    }
    for (const id of parts.flatMap((part) => (part.includes("=") ? [] : part.split("+")))) {
      const found = InnerSight.scenes[next.scene].find(id);
      if (!found) continue;
      next.selected.push(found.box);
      next.neuron = InnerSight.scenes[next.scene].boxes[found.box].id === id ? null : found.neuron;
    }
    if (next.selected.length > 1) next.neuron = null;
    return next;
  }

  // A page inside a notebook has no address of its own; it then simply has no history.
  const hasAddress = location.protocol !== "about:" && location.protocol !== "data:";

  function update(patch, { record = true } = {}) {
    const changed = new Set(Object.keys(patch).filter((key) => state[key] !== patch[key]));
    if (!changed.size) return;
    Object.assign(state, patch);
    if (record && hasAddress) {
      const hash = address(), url = location.href.split("#")[0] + (hash ? `#${hash}` : "");
      const steps = ["selected", "neuron", "tab", "scene"].some((key) => changed.has(key));
      if (url !== location.href) history[steps ? "pushState" : "replaceState"](null, "", url);
    }
    for (const listener of listeners) listener(changed);
  }

  function follow() {
    try {
      update(parse(location.hash), { record: false });
    } catch (error) {
      if (!(error instanceof URIError)) throw error; // a mangled link opens the page as it is
    }
  }

  function select(box, { add = false, neuron = null } = {}) {
    if (box === null) return update({ selected: [], neuron: null });
    if (!add) return update({ selected: [box], neuron });
    const others = state.selected.filter((i) => i !== box);
    return update({ selected: others.length === state.selected.length ? [...others, box] : others, neuron: null });
  }

  window.addEventListener("popstate", follow);
  window.addEventListener("hashchange", follow);
  Object.assign(InnerSight, { state, scene, update, select, follow, onChange: (listener) => listeners.push(listener) });
})();
