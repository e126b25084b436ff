"use strict";
/* Draws a scene with any pen: the canvas of the page, a bitmap for export, or the SVG writer. */
(() => {
  const { theme } = InnerSight;
  const REGISTERED_MOST = 1500; // in larger graphs vis-network is told about boxes only: it looks at every node in every frame
  const LEVELS = 6; // widths an edge can have
  const DASHED_MOST = 6000; // dashes are slow to draw; with more edges inhibition is shown by dashes on the selection only

  /* Adds one connection to a path: a horizontal S between columns, a bow inside a column or a ring. */
  function connect(pen, x1, y1, x2, y2, r1, r2, ring, lift = 0) {
    if (ring) {
      pen.moveTo(x1, y1);
      pen.quadraticCurveTo((x1 + x2) * 0.36, (y1 + y2) * 0.36, x2, y2);
      return;
    }
    if (r1 === 6 && r2 === 6 && Math.hypot(x1 - x2, y1 - y2) < 140) { // neighbours inside one box
      pen.moveTo(x1, y1);
      pen.lineTo(x2, y2);
      return;
    }
    if (Math.abs(x1 - x2) < 1) {
      const bow = 40 + Math.abs(y2 - y1) * 0.3;
      pen.moveTo(x1 + r1, y1);
      pen.bezierCurveTo(x1 + bow, y1, x2 + bow, y2, x2 + r2, y2);
      return;
    }
    const way = x2 > x1 ? 1 : -1, a = x1 + way * r1, b = x2 - way * r2, middle = (a + b) / 2;
    pen.moveTo(a, y1);
    if (lift) {
      pen.bezierCurveTo(a + (b - a) * 0.3, y1 - lift, b - (b - a) * 0.3, y2 - lift, b, y2);
      return;
    }
    pen.bezierCurveTo(middle, y1, middle, y2, b, y2);
  }

  /* Which connections are drawn now: all that pass the filters, or only those that touch the given neurons or boxes. */
  function visible(scene, state, touching) {
    const kept = [];
    const ok = (layer) => !state.hidden.has(layer);
    if (state.view === "communities") {
      scene.flows.forEach((flow) => {
        if (touching && !touching.has(flow.s) && !touching.has(flow.t)) return;
        if (!ok(scene.boxes[flow.s].layer) || !ok(scene.boxes[flow.t].layer)) return;
        for (const sign of [1, -1]) {
          if (!(sign > 0 ? state.activation : state.inhibition)) continue;
          const strength = sign > 0 ? flow.up : flow.down;
          if (strength > 0 && strength >= state.threshold && (touching || flow.rest & (sign > 0 ? 1 : 2))) {
            kept.push({ s: flow.s, t: flow.t, sign, strength });
          }
        }
      });
      return kept;
    }
    const { s, t, w, strength, n } = scene.edges;
    const { boxOf } = scene, boxes = scene.boxes;
    for (let e = 0; e < n; e++) {
      if (w[e] > 0 ? !state.activation : !state.inhibition) continue;
      if (strength[e] < state.threshold * 255) continue;
      if (touching && !touching.has(s[e]) && !touching.has(t[e])) continue;
      if (state.hidden.size && (!ok(boxes[boxOf[s[e]]].layer) || !ok(boxes[boxOf[t[e]]].layer))) continue;
      kept.push({ s: s[e], t: t[e], weight: w[e], sign: w[e] > 0 ? 1 : -1, strength: strength[e] / 255 });
    }
    return kept;
  }

  /* Connections that skip layers arch over them, activation above and inhibition below. */
  const lift = (scene, a, b, sign) => (Math.abs(scene.boxes[a].layer - scene.boxes[b].layer) < 3 ? 0 : sign * Math.min(170, 0.16 * Math.abs(scene.boxes[a].x - scene.boxes[b].x)));

  /* At rest connections start at the rim of an unpartitioned layer's box: drawn to every dot they would hide the grid. */
  function edgeOfGrid(scene, neuron, side) {
    const box = scene.boxes[scene.boxOf[neuron]];
    return box.role === "layer" && scene.layers.length > 1 ? side * (box.x + (side * box.w) / 2 - scene.x[neuron]) : 6;
  }

  function strokes(pen, scene, state, edges, { strong, newPath }) {
    const communities = state.view === "communities", ring = scene.layers.length === 1;
    const widest = communities ? 6.5 : 2.6, thinnest = communities ? 0.7 : 0.5;
    const paths = new Map();
    for (const edge of edges) {
      const level = Math.min(LEVELS - 1, Math.floor(Math.pow(edge.strength, 1.5) * LEVELS));
      const key = edge.sign * (level + 1);
      if (!paths.has(key)) paths.set(key, newPath());
      const path = paths.get(key);
      if (communities) {
        const a = scene.boxes[edge.s], b = scene.boxes[edge.t];
        // Side by side, so that activation and inhibition between the same two stay apart.
        const up = -edge.sign * 0.22;
        connect(path, a.x, a.y + up * a.radius, b.x, b.y + up * b.radius, a.radius, b.radius, ring, lift(scene, edge.s, edge.t, edge.sign));
      } else {
        const from = strong ? 6 : edgeOfGrid(scene, edge.s, 1), to = strong ? 6 : edgeOfGrid(scene, edge.t, -1);
        connect(path, scene.x[edge.s], scene.y[edge.s], scene.x[edge.t], scene.y[edge.t], from, to, ring && scene.boxOf[edge.s] !== scene.boxOf[edge.t], lift(scene, scene.boxOf[edge.s], scene.boxOf[edge.t], edge.sign));
      }
    }
    const dash = strong || edges.length <= DASHED_MOST;
    pen.save();
    pen.lineCap = "butt";
    for (const key of [...paths.keys()].sort((a, b) => Math.abs(a) - Math.abs(b))) {
      const level = (Math.abs(key) - 0.5) / LEVELS;
      pen.strokeStyle = key > 0 ? theme.activation : theme.inhibition;
      pen.lineWidth = thinnest + (widest - thinnest) * level;
      pen.globalAlpha = strong ? 0.6 + 0.3 * level : (communities ? 0.38 : 0.28) + 0.45 * level;
      pen.setLineDash(key < 0 && dash ? (communities ? [8, 5] : [7, 4]) : []);
      pen.stroke(paths.get(key));
    }
    pen.restore();
  }

  function boxColour(scene, state, box) {
    if (state.colour === "drop") return InnerSight.ramp(InnerSight.facts.worst(scene, box, state.closing)?.drop ?? 0);
    if (state.colour === "class") {
      const worst = InnerSight.facts.worst(scene, box, state.closing);
      return worst && worst.drop > 0 && worst.certain !== false ? InnerSight.hue(worst.index) : theme.grey;
    }
    return InnerSight.hue(box.hue);
  }

  function drawBoxes(pen, scene, state, lit) {
    const communities = state.view === "communities";
    scene.boxes.forEach((box, i) => {
      if (state.hidden.has(box.layer)) return;
      const chosen = state.selected.includes(i), dim = lit && !lit.has(i);
      const colour = boxColour(scene, state, box);
      pen.globalAlpha = dim ? 0.2 : 1;
      if (!communities) {
        const radius = Math.min(10, box.h / 2);
        pen.beginPath();
        pen.roundRect(box.x - box.w / 2, box.y - box.h / 2, box.w, box.h, radius);
        pen.fillStyle = InnerSight.mix(theme.canvas, colour, box.role === "silent" ? 0.06 : theme.dark ? 0.2 : 0.15);
        pen.fill();
        pen.lineWidth = chosen ? 2.6 : 1;
        pen.strokeStyle = chosen ? theme.text : InnerSight.mix(theme.canvas, colour, 0.55);
        pen.setLineDash(box.role === "silent" || box.role === "unassigned" ? [3, 3] : []);
        pen.stroke();
        pen.setLineDash([]);
      }
    });
    pen.globalAlpha = 1;
  }

  /* Names come last, with a rim in the page's colour, so that they stay readable over connections. */
  function drawLabels(pen, scene, state, lit, scale) {
    const size = Math.max(12, 10 / scale), fits = size * 1.3 <= scene.room[state.view];
    pen.lineJoin = "round";
    pen.strokeStyle = theme.canvas;
    pen.lineWidth = size / 3.5;
    scene.boxes.forEach((box, i) => {
      if (state.hidden.has(box.layer)) return;
      const chosen = state.selected.includes(i);
      if (!fits && !chosen && state.hover?.box !== i && box.role !== "class") return;
      pen.globalAlpha = lit && !lit.has(i) ? 0.25 : 1;
      label(pen, scene, state, box, size, chosen);
    });
    pen.globalAlpha = 1;
  }

  function words(pen, text, x, y) {
    pen.strokeText(text, x, y);
    pen.fillText(text, x, y);
  }

  function label(pen, scene, state, box, size, chosen) {
    if (box.role === "layer") return;
    pen.fillStyle = theme.text;
    const text = InnerSight.clip(box.short, 18), number = box.role === "class" ? "" : ` · ${box.size}`;
    if (state.view === "communities") {
      pen.textBaseline = "top";
      pen.textAlign = box.role === "class" ? "left" : "center";
      pen.font = `${chosen ? 700 : 600} ${size}px ${theme.font}`;
      if (box.role === "class") {
        pen.textBaseline = "middle";
        words(pen, text, box.x + box.radius + 8, box.y);
      } else {
        const mark = badge(scene, state, box), beside = mark && mark.text.length > 3 ? ` ${mark.text}` : "";
        words(pen, text + number + beside, box.x, box.y + box.radius + 4);
      }
      return;
    }
    pen.font = `${chosen ? 700 : 600} ${size}px ${theme.font}`;
    if (box.role === "class") {
      pen.textAlign = "left";
      pen.textBaseline = "middle";
      words(pen, text, box.x + box.w / 2 + 8, box.y);
      return;
    }
    pen.textAlign = "left";
    pen.textBaseline = "alphabetic";
    const mark = badge(scene, state, box), room = box.w - (mark ? (mark.text.length + 1) * size * 0.62 : 0);
    const whole = text + number, fits = (pen.measureText?.(whole).width ?? whole.length * size * 0.6) <= room;
    words(pen, fits || chosen ? whole : text, box.x - box.w / 2 + 2, box.y - box.h / 2 - 6);
    if (mark) {
      pen.textAlign = "right";
      pen.font = `700 ${size}px ${theme.font}`;
      pen.fillStyle = mark.certain ? theme.accent : theme.muted;
      pen.globalAlpha *= mark.certain ? 1 : 0.65;
      words(pen, mark.text, box.x + box.w / 2 - 2, box.y - box.h / 2 - 6);
    }
  }

  /* The class a community is for, beside its name: plain where supported, pale with a question mark where it is not. */
  function badge(scene, state, box) {
    const worst = InnerSight.facts.worst(scene, box, state.closing);
    if (!worst || scene.facts.classes.length < 2 || !(worst.drop >= 0.02) || (box.role !== "community" && box.role !== "silent")) return null;
    const room = Math.max(2, Math.floor((box.w - 46) / 8));
    const name = InnerSight.clip(worst.short, Math.min(8, room));
    return { text: worst.certain ? name : `${name}?`, certain: worst.certain };
  }

  function drawCircles(pen, scene, state, lit) {
    scene.boxes.forEach((box, i) => {
      if (state.hidden.has(box.layer)) return;
      const mark = badge(scene, state, box), chosen = state.selected.includes(i);
      pen.globalAlpha = lit && !lit.has(i) ? 0.25 : 1;
      if (chosen) {
        pen.beginPath();
        pen.arc(box.x, box.y, box.radius + 4, 0, 2 * Math.PI);
        pen.lineWidth = 2.6;
        pen.strokeStyle = theme.text;
        pen.stroke();
      }
      if (!mark || mark.text.length > 3) return;
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.font = `700 ${Math.min(14, box.radius * (mark.text.length > 2 ? 0.75 : 1))}px ${theme.font}`;
      pen.fillStyle = InnerSight.ink(boxColour(scene, state, box));
      pen.globalAlpha *= mark.certain ? 1 : 0.7;
      pen.fillText(mark.text, box.x, box.y + 0.5);
    });
    pen.globalAlpha = 1;
  }

  /* vis-network's dictionaries of what stands where. They draw nothing: our pen draws the dots in batches of one look, so that a
     selection costs one redraw, where vis-network would have to be told about every dot anew. */
  const nothing = { drawNode() {}, nodeDimensions: { width: 12, height: 12 } };
  function nodes(scene, state) {
    const base = { shape: "custom", ctxRenderer: () => nothing, fixed: true };
    const boxes = scene.boxes.filter((box) => !state.hidden.has(box.layer));
    if (state.view === "communities" || scene.nNeurons > REGISTERED_MOST) return boxes.map((box) => ({ ...base, id: box.id, x: box.x, y: box.y, size: box.radius }));
    return boxes.flatMap((box) => Array.from(box.members, (member) => {
      const at = scene.offset[box.layer] + member;
      return { ...base, id: `L${box.layer}n${member}`, x: scene.x[at], y: scene.y[at], size: 6 };
    }));
  }

  /* Dots (or circles, one per box) in batches of one look: [{ fill, border, width, size, at: [x, y, x, y, …] }]. */
  function dots(scene, state, lit, open) {
    const batches = new Map();
    const put = (fill, border, width, size, x, y) => {
      const key = `${fill} ${border} ${width} ${size}`;
      if (!batches.has(key)) batches.set(key, { fill, border, width, size, at: [] });
      batches.get(key).at.push(x, y);
    };
    scene.boxes.forEach((box, i) => {
      if (state.hidden.has(box.layer)) return;
      const bright = !lit || lit.has(i), hollow = box.role === "silent" || box.role === "unassigned", own = boxColour(scene, state, box);
      const colour = bright ? own : InnerSight.mix(theme.canvas, own, theme.dark ? 0.34 : 0.24), fill = hollow ? theme.canvas : colour;
      if (state.view === "communities") {
        put(fill, hollow ? colour : InnerSight.mix(colour, theme.canvas, 0.35), hollow ? 2 : 1, box.radius, box.x, box.y);
        return;
      }
      if (!scene.hasNeurons || (open && !open.has(i))) return;
      for (const member of box.members) {
        const at = scene.offset[box.layer] + member;
        put(fill, hollow ? colour : theme.canvas, hollow ? 1.5 : 0.8, 6, scene.x[at], scene.y[at]);
      }
    });
    if (state.neuron !== null && state.view === "neurons") {
      put(boxColour(scene, state, scene.boxes[scene.boxOf[state.neuron]]), theme.text, 2.5, 8, scene.x[state.neuron], scene.y[state.neuron]);
    }
    return [...batches.values()];
  }

  function drawDots(pen, batches) {
    for (const { fill, border, width, size, at } of batches) {
      pen.beginPath();
      for (let k = 0; k < at.length; k += 2) {
        pen.moveTo(at[k] + size, at[k + 1]);
        pen.arc(at[k], at[k + 1], size, 0, 2 * Math.PI);
      }
      pen.fillStyle = fill;
      pen.fill();
      pen.lineWidth = width;
      pen.strokeStyle = border;
      pen.stroke();
    }
  }

  function drawHeaders(pen, scene, state, scale) {
    const { layers } = scene;
    if (layers.length === 1) return;
    const size = Math.min(80, Math.max(17, 12.5 / scale));
    const between = layers[1].x - layers[0].x;
    const every = Math.max(1, Math.ceil((size * 6.4) / between));
    const drawn = layers.filter((_, i) => i % every === 0 && !state.hidden.has(i));
    const room = (layer) => Math.min(...drawn.filter((other) => other !== layer && other.top === layer.top).map((other) => Math.abs(other.x - layer.x)), every * between) - size * 0.7;
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    for (const layer of drawn) {
      pen.fillStyle = theme.text;
      pen.font = `700 ${size}px ${theme.font}`;
      pen.fillText(fitting(pen, layer.title, room(layer)), layer.x, layer.top - 20 - size * 0.95);
      pen.fillStyle = theme.muted;
      pen.font = `400 ${size * 0.72}px ${theme.font}`;
      pen.fillText(InnerSight.clip(layer.subtitle, Math.max(4, Math.floor(room(layer) / (size * 0.42)))), layer.x, layer.top - 20);
    }
  }

  /* As many of a module's last names as there is room for; of the last one, if need be, its end. */
  function fitting(pen, title, room) {
    const parts = title.split(".");
    for (let first = 0; first < parts.length; first++) {
      const text = (first ? "…" : "") + parts.slice(first).join(".");
      if (pen.measureText(text).width <= room) return text;
    }
    const last = parts[parts.length - 1];
    for (let letters = last.length; letters > 4; letters--) if (pen.measureText(InnerSight.tail(last, letters)).width <= room) return InnerSight.tail(last, letters);
    return InnerSight.tail(last, 4);
  }

  Object.assign(InnerSight, { paint: { visible, strokes, drawBoxes, drawLabels, drawCircles, drawDots, dots, drawHeaders, nodes, boxColour } });
  InnerSight.ink = (colour) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return 0.299 * r + 0.587 * g + 0.114 * b > 150 ? "#14171c" : "#ffffff";
  };
})();
