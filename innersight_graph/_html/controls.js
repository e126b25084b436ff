"use strict";
/* Buttons, search, keys and the theme. */
(() => {
  const { el, state, clip } = InnerSight;
  const at = (id) => document.getElementById(id);
  const scene = () => InnerSight.scene();

  function setTheme(name) {
    document.documentElement.dataset.theme = name;
    InnerSight.readTheme();
    at("theme").setAttribute("aria-pressed", String(name === "dark"));
    at("theme").textContent = name === "dark" ? "Light" : "Dark";
  }

  function scenes() {
    const host = at("scenes");
    if (InnerSight.scenes.length < 2) return;
    const pick = (i) => {
      // The same community keeps its selection only within one partition; elsewhere the ids mean other neurons.
      InnerSight.update({ scene: i, selected: [], neuron: null, hover: null, hidden: new Set() });
    };
    if (InnerSight.scenes.length > 6) {
      host.replaceChildren(el("select", { "aria-label": "What is shown", onchange: (event) => pick(Number(event.target.value)) }, InnerSight.scenes.map((s, i) => el("option", { value: i }, clip(s.label, 40)))));
    } else {
      host.replaceChildren(el("div", { class: "segmented", role: "group", "aria-label": "What is shown" }, InnerSight.scenes.map((s, i) => el("button", { type: "button", "data-scene": i, onclick: () => pick(i), title: clip(s.label, 200) }, clip(s.label, 24)))));
    }
    host.hidden = false;
  }

  function layers() {
    at("layer-list").replaceChildren(...scene().layers.map((layer, i) => el("label", {}, el("input", {
      type: "checkbox", checked: !state.hidden.has(i), "data-layer": i, onchange: (event) => {
        const hidden = new Set(state.hidden);
        hidden[event.target.checked ? "delete" : "add"](i);
        InnerSight.update({ hidden });
      },
    }), ` ${clip(layer.title, 40)}`)));
  }

  /* Search by community name, neuron name or class. */
  const MOST = 12;
  function candidates(text) {
    const s = scene(), wanted = text.trim().toLowerCase(), found = [];
    if (!wanted) return found;
    const matches = (name) => name.toLowerCase().includes(wanted);
    for (let i = 0; i < s.boxes.length && found.length < MOST; i++) {
      const box = s.boxes[i];
      if (matches(box.name) || matches(box.short) || box.id.toLowerCase() === wanted) found.push({ text: box.role === "class" ? `${box.short} (output)` : box.name, box: i, neuron: null });
    }
    for (let n = 0; s.hasNeurons && n < s.nNeurons && found.length < MOST; n++) {
      if (s.boxes[s.boxOf[n]].role !== "class" && matches(s.neuronName(n))) found.push({ text: `${s.neuronName(n)} in ${s.boxes[s.boxOf[n]].short}`, box: s.boxOf[n], neuron: n });
    }
    return found;
  }

  function finder() {
    const input = at("find"), list = at("found");
    let rows = [], mark = 0;
    const close = () => {
      list.hidden = true;
      input.setAttribute("aria-expanded", "false");
      input.removeAttribute("aria-activedescendant");
    };
    const take = (row) => {
      if (!row) return;
      close();
      input.value = "";
      input.blur();
      InnerSight.select(row.box, { neuron: row.neuron });
      InnerSight.graph.reveal(row.box);
    };
    const show = () => {
      list.replaceChildren(...rows.map((row, i) => el("li", { id: `found-${i}`, role: "option", "aria-selected": String(i === mark), onmousedown: (event) => { event.preventDefault(); take(row); } }, clip(row.text, 60))));
      if (!rows.length) list.replaceChildren(el("li", { class: "muted" }, "nothing of that name"));
      list.hidden = !input.value.trim();
      input.setAttribute("aria-expanded", String(!list.hidden));
      if (rows.length) input.setAttribute("aria-activedescendant", `found-${mark}`);
    };
    input.addEventListener("input", () => { rows = candidates(input.value); mark = 0; show(); });
    input.addEventListener("blur", close);
    input.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        mark = (mark + (event.key === "ArrowDown" ? 1 : rows.length - 1)) % Math.max(1, rows.length);
        show();
        event.preventDefault();
      } else if (event.key === "Enter") take(rows[mark]);
      else if (event.key === "Escape") { input.value = ""; close(); input.blur(); event.stopPropagation(); }
    });
  }

  /* Up and down within a layer, left and right to the nearest box of the next layer. */
  function walk(key) {
    const s = scene(), now = state.selected[state.selected.length - 1];
    const shownLayers = s.stacks.map((_, i) => i).filter((i) => !state.hidden.has(i) && s.stacks[i].length);
    if (now === undefined) {
      const firstLayer = shownLayers.find((i) => s.boxes[s.stacks[i][0]].community !== null) ?? shownLayers[0];
      if (firstLayer !== undefined) go(s.stacks[firstLayer][0]);
      return;
    }
    const box = s.boxes[now], stack = s.stacks[box.layer], rank = stack.indexOf(now);
    if (key === "ArrowUp" || key === "ArrowDown") {
      const next = stack[rank + (key === "ArrowDown" ? 1 : -1)];
      if (next !== undefined) go(next);
      return;
    }
    const order = shownLayers.indexOf(box.layer) + (key === "ArrowRight" ? 1 : -1), layer = shownLayers[order];
    if (layer === undefined) return;
    go(s.stacks[layer].reduce((best, i) => (Math.abs(s.boxes[i].y - box.y) < Math.abs(s.boxes[best].y - box.y) ? i : best)));
  }
  function go(i) {
    InnerSight.select(i);
    InnerSight.graph.reveal(i);
  }

  const KEYS = {
    Escape: () => (state.neuron !== null ? InnerSight.update({ neuron: null }) : InnerSight.select(null)),
    "/": () => at("find").focus(), 0: () => InnerSight.graph.fit(true), "+": () => InnerSight.graph.zoom(1.25), "-": () => InnerSight.graph.zoom(0.8),
    v: () => InnerSight.update({ view: state.view === "neurons" ? "communities" : "neurons" }), "?": () => at("help").showModal(),
    ArrowUp: walk, ArrowDown: walk, ArrowLeft: walk, ArrowRight: walk,
  };

  function keyboard(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
    const target = event.target;
    if (target.closest("input, select, textarea, summary") && event.key !== "Escape") return;
    if (target.closest("[role=tab]") && event.key.startsWith("Arrow")) return;
    if (state.tab !== "graph" || !Object.hasOwn(KEYS, event.key)) return;
    if (target.closest("#panel") && event.key.startsWith("Arrow")) return;
    event.preventDefault();
    KEYS[event.key](event.key);
  }

  function tabKeys(event) {
    const all = [...document.querySelectorAll("[role=tab]")], now = all.indexOf(event.currentTarget);
    const next = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: all.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const tab = all[(next + all.length) % all.length];
    InnerSight.update({ tab: tab.id.slice(4) });
    tab.focus();
  }

  function sync(changed) {
    if (!changed || changed.has("scene") || changed.has("hidden")) layers();
    at("view-neurons").setAttribute("aria-pressed", String(state.view === "neurons"));
    at("view-communities").setAttribute("aria-pressed", String(state.view === "communities"));
    at("view-neurons").disabled = !scene().hasNeurons;
    at("show-activation").checked = state.activation;
    at("show-inhibition").checked = state.inhibition;
    at("threshold-value").textContent = `${Math.round(state.threshold * 100)} %`;
    const measured = InnerSight.facts.closings(scene()).length > 0;
    for (const option of at("colour").options) option.disabled = option.value !== "community" && !measured;
    at("colour").value = state.colour;
    for (const button of at("scenes").querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.dataset.scene) === state.scene));
    const select = at("scenes").querySelector("select");
    if (select) select.value = String(state.scene);
    const tell = state.selected.map((i) => scene().boxes[i].name).join(", ");
    at("status").textContent = tell ? `Selected: ${clip(tell, 300)}` : "";
  }

  function start() {
    scenes();
    finder();
    for (const view of ["neurons", "communities"]) at(`view-${view}`).addEventListener("click", () => InnerSight.update({ view }));
    at("show-activation").addEventListener("change", (event) => InnerSight.update({ activation: event.target.checked }));
    at("show-inhibition").addEventListener("change", (event) => InnerSight.update({ inhibition: event.target.checked }));
    at("threshold").addEventListener("input", (event) => InnerSight.update({ threshold: Number(event.target.value) / 100 }));
    at("colour").addEventListener("change", (event) => InnerSight.update({ colour: event.target.value }));
    at("fit").addEventListener("click", () => InnerSight.graph.fit(true));
    at("closer").addEventListener("click", () => InnerSight.graph.zoom(1.25));
    at("farther").addEventListener("click", () => InnerSight.graph.zoom(0.8));
    at("png").addEventListener("click", () => InnerSight.exporting.png());
    at("svg").addEventListener("click", () => InnerSight.exporting.svg());
    at("help-open").addEventListener("click", () => at("help").showModal());
    at("theme").addEventListener("click", () => {
      setTheme(InnerSight.theme.dark ? "light" : "dark");
      InnerSight.update({ theme: document.documentElement.dataset.theme });
    });
    for (const tab of document.querySelectorAll("[role=tab]")) {
      tab.addEventListener("click", () => InnerSight.update({ tab: tab.id.slice(4) }));
      tab.addEventListener("keydown", tabKeys);
    }
    document.addEventListener("keydown", keyboard);
    window.addEventListener("beforeprint", () => InnerSight.graph.fit(false));
    sync(null);
    InnerSight.onChange(sync);
  }

  InnerSight.controls = { start, setTheme };
})();
