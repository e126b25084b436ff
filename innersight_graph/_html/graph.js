"use strict";
/* The picture: vis-network knows what stands where and owns camera and clicks; our painter draws it. */
(() => {
  const { state, paint, theme } = InnerSight;
  const DIRECT_MOST = 400; // more resting connections than this are painted once into a bitmap and moved as a picture
  const host = document.getElementById("mynetwork");
  let network, lit = null, open = null, dots = [], resting = [], chosen = [], bitmap = null, timer = 0, ownCamera = false;
  const tip = document.getElementById("tip");

  const scene = () => InnerSight.scene();

  /* Boxes that stay bright: what is selected and what the drawn connections tie to it. */
  function illuminate() {
    const s = scene();
    resting = chosen = [];
    lit = open = null;
    if (!state.selected.length) {
      if (!s.selectionOnly || state.view === "communities") resting = paint.visible(s, state, null);
      else resting = s.backdrop ? paint.visible(s, state, null) : [];
      if (s.expand && state.view === "neurons") open = new Set();
      return;
    }
    const single = state.neuron ?? lonely(s);
    chosen = single !== null && state.view === "neurons" ? strongest(s, single) : paint.visible(s, state, touched(s, state.selected, state.neuron));
    lit = new Set(state.selected);
    for (const edge of chosen) {
      for (const end of [edge.s, edge.t]) lit.add(state.view === "communities" ? end : s.boxOf[end]);
    }
    if (s.expand && state.view === "neurons") open = lit;
  }

  /* The neuron of a selected box that holds only one. */
  function lonely(s) {
    const box = s.boxes[state.selected[0]];
    return state.selected.length === 1 && s.hasNeurons && box.size === 1 ? s.offset[box.layer] + box.members[0] : null;
  }

  /* A single neuron shows more than its share of the resting picture: its strongest connections of all the page knows. */
  function strongest(s, neuron) {
    const all = s.connections(neuron).filter((row) => (row.weight > 0 ? state.activation : state.inhibition));
    const most = Math.abs(all[0]?.weight) || 1;
    return all.slice(0, 40).map((row) => ({
      s: row.incoming ? row.other : neuron, t: row.incoming ? neuron : row.other, weight: row.weight, sign: Math.sign(row.weight), strength: Math.abs(row.weight) / most,
    }));
  }

  function touched(s, boxes, neuron) {
    if (state.view === "communities") return new Set(boxes);
    if (neuron !== null) return new Set([neuron]);
    const members = new Set();
    for (const i of boxes) for (const member of s.boxes[i].members) members.add(s.offset[s.boxes[i].layer] + member);
    return members;
  }

  const newPath = () => new Path2D();

  function before(pen) {
    const s = scene(), scale = network.getScale();
    paint.drawHeaders(pen, s, state, scale);
    paint.drawBoxes(pen, s, state, lit);
    const hovered = preview();
    pen.save();
    pen.globalAlpha = hovered.length ? 0.25 : 1;
    const still = resting.length > DIRECT_MOST || hovered.length > 0;
    if (!still) paint.strokes(pen, s, state, resting, { strong: false, newPath });
    else if (resting.length) picture(pen, s, scale);
    pen.restore();
    if (chosen.length) paint.strokes(pen, s, state, chosen, { strong: true, newPath });
    if (hovered.length) paint.strokes(pen, s, state, hovered, { strong: true, newPath });
    if (!still || !resting.length || hovered.length) paint.drawDots(pen, dots);
  }

  function after(pen) {
    if (state.view === "communities") paint.drawCircles(pen, scene(), state, lit);
    paint.drawLabels(pen, scene(), state, lit, network.getScale());
  }

  function preview() {
    const hover = state.hover;
    if (!hover || state.selected.length || (hover.box === undefined)) return [];
    if (state.view === "neurons" && !scene().hasNeurons) return [];
    return paint.visible(scene(), state, touched(scene(), [hover.box], hover.neuron ?? null));
  }

  /* Resting connections and dots as a picture of the visible part and a margin; drawn anew when the camera rests or leaves it. */
  function picture(pen, s, scale) {
    const size = { w: host.clientWidth, h: host.clientHeight };
    const a = network.DOMtoCanvas({ x: 0, y: 0 }), b = network.DOMtoCanvas({ x: size.w, y: size.h });
    const inside = bitmap && a.x >= bitmap.left && a.y >= bitmap.top && b.x <= bitmap.right && b.y <= bitmap.bottom;
    if (!bitmap || !inside) render(s, scale, a, b);
    else if (Math.abs(Math.log(bitmap.scale / scale)) > 0.05 && !timer) {
      timer = setTimeout(() => {
        timer = 0;
        bitmap = null;
        network.redraw();
      }, 140);
    }
    pen.drawImage(bitmap.canvas, bitmap.left, bitmap.top, bitmap.right - bitmap.left, bitmap.bottom - bitmap.top);
  }

  function render(s, scale, a, b) {
    const margin = 0.35, dx = (b.x - a.x) * margin, dy = (b.y - a.y) * margin, ratio = Math.min(2, window.devicePixelRatio || 1);
    const area = { left: a.x - dx, top: a.y - dy, right: b.x + dx, bottom: b.y + dy };
    const canvas = document.createElement("canvas"), density = scale * ratio;
    canvas.width = Math.min(6000, Math.ceil((area.right - area.left) * density));
    canvas.height = Math.min(6000, Math.ceil((area.bottom - area.top) * density));
    const pen = canvas.getContext("2d");
    pen.setTransform(canvas.width / (area.right - area.left), 0, 0, canvas.height / (area.bottom - area.top), 0, 0);
    pen.translate(-area.left, -area.top);
    paint.strokes(pen, s, state, resting, { strong: false, newPath });
    paint.drawDots(pen, dots);
    bitmap = { canvas, scale, ...area };
  }

  function refresh(changed) {
    if (!changed || ["scene", "view", "hidden"].some((key) => changed.has(key))) network.setData({ nodes: paint.nodes(scene(), state), edges: [] });
    if (!changed || [...changed].some((key) => !["hover", "tab", "sharedScale", "picture"].includes(key))) {
      illuminate();
      bitmap = null;
      dots = paint.dots(scene(), state, lit, open);
      caption();
    }
    if (changed && (changed.has("scene") || changed.has("view"))) fit(false);
    network.redraw();
  }

  function fit(animate) {
    ownCamera = false;
    const { left, right, top, bottom } = scene().bounds();
    // Names of classes stand to the right of the last layer; on the screen they keep their size.
    const names = scene().boxes.filter((box) => box.role === "class").map((box) => Math.min(18, Array.from(box.short).length));
    const beside = names.length ? 7 * Math.max(...names) + 18 : 0;
    const header = 64 * Math.max(1, (bottom - top) / 900), height = bottom - top + header + 24, width = right - left + 60;
    const room = { w: Math.max(80, host.clientWidth - 24 - beside), h: Math.max(80, host.clientHeight - 76) };
    const scale = Math.min(room.w / width, room.h / height, 2.2);
    const position = { x: (left + right) / 2 + beside / 2 / scale, y: (top - header + bottom) / 2 + 26 / scale };
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    network.moveTo({ position, scale, animation: animate && !still ? { duration: 250, easingFunction: "easeInOutQuad" } : false });
    // The animation's last step can overshoot by a frame.
    if (animate && !still) network.once("animationFinished", () => network.moveTo({ position, scale, animation: false }));
  }

  /* Brings a box into view without changing the zoom, if it is outside. */
  function reveal(i) {
    const box = scene().boxes[i], spot = network.canvasToDOM({ x: box.x, y: box.y });
    const inside = spot.x > 40 && spot.y > 60 && spot.x < host.clientWidth - 40 && spot.y < host.clientHeight - 60;
    if (!inside) network.moveTo({ position: { x: box.x, y: box.y }, animation: false });
  }

  function caption() {
    const s = scene(), shown = resting.length + chosen.length;
    const text = state.view === "communities"
      ? `Showing ${InnerSight.count(shown)} of ${InnerSight.count(s.nFlows)} summed connections between boxes (activation and inhibition apart)`
      : `Showing ${InnerSight.count(shown)} of ${InnerSight.count(s.edges.total)} connections`;
    let mass = 0;
    if (state.view === "communities") for (const e of resting.concat(chosen)) mass += weightOf(s, e);
    const share = state.view === "communities" ? (s.flowMass ? mass / s.flowMass : 1) : drawnShare(s, resting.length ? resting : chosen);
    document.getElementById("caption").textContent = `${text}, ${InnerSight.percent(share)} of total |weight|. ${s.note}`;
  }

  function weightOf(s, edge) {
    const flow = s.flowAt.get(edge.s * s.boxes.length + edge.t);
    return edge.sign > 0 ? flow.activation : flow.inhibition;
  }

  function drawnShare(s, edges) {
    if (!s.edges.mass) return 1;
    let drawn = 0;
    for (const edge of edges) drawn += Math.abs(edge.weight);
    return drawn / s.edges.mass;
  }

  function hover(event) {
    const box = host.getBoundingClientRect(), at = { x: event.clientX - box.left, y: event.clientY - box.top };
    const spot = network.DOMtoCanvas(at), s = scene();
    const found = s.hit(spot.x, spot.y, state.view === "communities");
    const same = (found?.box === state.hover?.box) && (found?.neuron === state.hover?.neuron);
    if (!same) {
      InnerSight.update({ hover: found });
      host.style.cursor = found ? "pointer" : "default";
    }
    tip.hidden = !found;
    if (!found) return;
    if (!same) tip.replaceChildren(...InnerSight.facts.tooltip(s, found));
    tip.style.left = `${Math.min(at.x + 16, host.clientWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(at.y + 16, host.clientHeight - tip.offsetHeight - 8)}px`;
  }

  /* First click: the community. A click on a neuron of the community that is already selected: that neuron. */
  function click(params) {
    const s = scene(), spot = params.pointer.canvas, found = s.hit(spot.x, spot.y, state.view === "communities");
    if (!found) return InnerSight.select(null);
    const event = params.event?.srcEvent || {};
    const add = event.shiftKey || event.ctrlKey || event.metaKey;
    const again = state.selected.length === 1 && state.selected[0] === found.box && found.neuron !== null && s.boxes[found.box].role !== "class";
    return InnerSight.select(found.box, { add, neuron: again && !add ? found.neuron : null });
  }

  function start() {
    network = new vis.Network(host, { nodes: [], edges: [] }, {
      physics: false, layout: { improvedLayout: false }, autoResize: true,
      interaction: { dragNodes: false, hover: false, selectable: false, tooltipDelay: 1e9, zoomSpeed: 0.6, keyboard: false },
      nodes: { shape: "dot", chosen: false },
    });
    window.network = network;
    network.on("beforeDrawing", before);
    network.on("afterDrawing", after);
    network.on("click", click);
    host.addEventListener("mousemove", hover);
    host.addEventListener("mouseleave", () => {
      tip.hidden = true;
      InnerSight.update({ hover: null });
    });
    const canvas = host.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "The network as a picture. The same facts are in the table of communities beside it.");
    refresh(null);
    fit(false);
    InnerSight.onChange(refresh);
    // A camera that the reader has not touched keeps fitting; one that was set stays where it is.
    network.on("zoom", () => { ownCamera = true; });
    network.on("dragEnd", () => { ownCamera = true; });
    new ResizeObserver(() => { if (host.clientWidth && !ownCamera) fit(false); }).observe(host);
  }

  function zoom(by) {
    ownCamera = true;
    network.moveTo({ scale: network.getScale() * by, animation: false });
  }

  const shown = () => ({ resting: resting.slice(), chosen: chosen.slice(), lit, open });
  InnerSight.graph = { start, fit, reveal, refresh, shown, zoom };
})();
