"use strict";
/* Small charts, built by hand from numbers: bars with intervals, violins, maps, curves, matrices and ribbons. */
(() => {
  const { svg, el, points, clip, theme } = InnerSight;

  /* Accuracy change per class: bar, whisker for the interval, grey band for random groups of the same size. */
  function bars(rows, { digits = 1 } = {}) {
    const left = 92, right = 66, width = 352, step = 22, height = rows.length * step + 6;
    const lows = rows.map((row) => Math.min(0, -row.drop, row.lo === undefined ? 0 : -row.hi)).filter(Number.isFinite);
    const highs = rows.map((row) => Math.max(0, -row.drop, row.hi === undefined ? 0 : -row.lo)).filter(Number.isFinite);
    const bands = rows.map((row) => row.band).filter(Number.isFinite);
    const low = Math.min(-0.02, ...lows, ...bands.map((band) => -band)), high = Math.max(0.004, ...highs);
    const x = (value) => left + ((Math.min(high, Math.max(low, value)) - low) / (high - low)) * (width - left - right);
    const marks = rows.flatMap((row, i) => {
      const y = 4 + i * step, value = Number.isFinite(row.drop) ? -row.drop : 0, zero = x(0), end = x(value);
      const whisker = Number.isFinite(row.lo) && Number.isFinite(row.hi);
      return [
        svg("text", { x: left - 8, y: y + 13, "text-anchor": "end", class: row.strong ? "strong" : "" }, clip(row.name, 13)),
        Number.isFinite(row.band) && svg("rect", { x: x(-row.band), y: y + 1, width: Math.max(1, x(-(row.low ?? 0)) - x(-row.band)), height: 16, rx: 2, class: "band" }),
        svg("rect", { x: Math.min(zero, end), y: y + 4, width: Math.max(0.8, Math.abs(end - zero)), height: 10, rx: 2, class: value > 0 ? "gain" : row.sure === false ? "loss unsure" : "loss" }),
        whisker && svg("path", { d: `M${x(-row.hi)},${y + 9}H${x(-row.lo)}M${x(-row.hi)},${y + 6}v6M${x(-row.lo)},${y + 6}v6`, class: "whisker" }),
        svg("text", { x: width - 14, y: y + 13, "text-anchor": "end", class: row.strong ? "strong num" : "num" }, points(row.drop, digits)),
        row.sure && svg("text", { x: width - 9, y: y + 13, class: "mark" }, "●"),
      ];
    });
    const zero = svg("path", { d: `M${x(0)},2V${height - 4}`, class: "zero" });
    const label = rows.map((row) => `${row.name} ${points(row.drop)}`).join(", ");
    return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": clip(`Accuracy change in points: ${label}`, 2000) }, marks, zero);
  }

  /* Densities per class, each a string of digits 0-99 in pairs, drawn as mirrored outlines with a tick at the mean. */
  function violins(groups, range, colour) {
    const width = 352, height = 118, slot = width / groups.length, top = 8, bottom = height - 20;
    const shapes = groups.map((group, i) => {
      const middle = slot * (i + 0.5), n = group.density.length, half = Math.min(18, slot * 0.44);
      const y = (at) => bottom - (at / (n - 1)) * (bottom - top);
      const outline = group.density.map((value, at) => `${(middle + (half * value) / 99).toFixed(1)},${y(at).toFixed(1)}`)
        .concat(group.density.map((value, at) => `${(middle - (half * value) / 99).toFixed(1)},${y(at).toFixed(1)}`).reverse());
      const mean = bottom - ((group.mean - range[0]) / (range[1] - range[0] || 1)) * (bottom - top);
      return [
        svg("polygon", { points: outline.join(" "), fill: colour, class: "violin" }),
        svg("path", { d: `M${middle - half * 0.7},${mean}h${half * 1.4}`, class: "mean" }),
        groups.length <= 30 && svg("text", { x: middle, y: height - 5, "text-anchor": "middle" }, clip(group.name, Math.max(1, Math.floor(slot / 6)))),
      ];
    });
    return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": "Distribution of the mean activation over images, by class" }, shapes);
  }

  /* A map of bytes as an image: magma for heat, grey for a picture, or heat over a picture. */
  function heatmap(map, { top = 255, under = null, label = "map", size = 164 } = {}) {
    const canvas = el("canvas", { class: "map", role: "img", "aria-label": label });
    canvas.width = map.w;
    canvas.height = map.h;
    const pen = canvas.getContext("2d"), image = pen.createImageData(map.w, map.h);
    for (let i = 0; i < map.w * map.h; i++) {
      const heat = map.values ? map.values[i] / top : null;
      const grey = under ? under[i] : 0;
      let rgb = map.grey ? [map.grey[i], map.grey[i], map.grey[i]] : InnerSight.magma(heat);
      if (under) rgb = rgb.map((value) => Math.round(value * 0.62 + grey * 0.38));
      image.data.set([...rgb, 255], i * 4);
    }
    pen.putImageData(image, 0, 0);
    const ratio = map.h / map.w;
    Object.assign(canvas.style, { width: `${ratio > 1 ? size / ratio : size}px`, height: `${ratio > 1 ? size : size * ratio}px` });
    return canvas;
  }

  /* Lines over r (or any x): one path per series, the chosen x as a ring, gaps where a value is missing. */
  function curve({ x, series, chosen, xLabel, yLabel, width = 430, height = 210 }) {
    const box = { l: 76, r: 12, t: 12, b: 36 };
    const values = series.flatMap((line) => line.y.concat(line.low || [], line.high || [])).filter(Number.isFinite);
    if (!values.length) return el("p", { class: "muted" }, "No values were recorded.");
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (low === high) [low, high] = [low - 1, high + 1];
    const ax = [Math.min(...x), Math.max(...x)];
    const px = (v) => box.l + ((v - ax[0]) / (ax[1] - ax[0] || 1)) * (width - box.l - box.r);
    const py = (v) => height - box.b - ((v - low) / (high - low)) * (height - box.t - box.b);
    const ticks = [low, (low + high) / 2, high].map((v) => [
      svg("path", { d: `M${box.l},${py(v)}H${width - box.r}`, class: "rule" }),
      svg("text", { x: box.l - 6, y: py(v) + 4, "text-anchor": "end" }, tick(v)),
    ]);
    const every = Math.ceil(x.length / 10);
    const xTicks = x.map((v, i) => i % every === 0 && svg("text", { x: px(v), y: height - box.b + 15, "text-anchor": "middle" }, tick(v)));
    const lines = series.map((line, s) => {
      const path = line.y.map((v, i) => (Number.isFinite(v) ? `${i && Number.isFinite(line.y[i - 1]) ? "L" : "M"}${px(x[i]).toFixed(1)},${py(v).toFixed(1)}` : "")).join("");
      const dots = line.y.map((v, i) => Number.isFinite(v) && svg("circle", { cx: px(x[i]), cy: py(v), r: x[i] === chosen && s === 0 ? 5.5 : 2, class: x[i] === chosen && s === 0 ? "chosen" : `dot s${s}` }));
      return [svg("path", { d: path, class: `line s${s}` }), dots];
    });
    return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart curve", role: "img", "aria-label": `${yLabel} against ${xLabel}${chosen === undefined || chosen === null ? "" : `, chosen ${chosen}`}` },
      ticks, xTicks, lines,
      svg("text", { x: (box.l + width - box.r) / 2, y: height - 5, "text-anchor": "middle", class: "axis" }, xLabel),
      svg("text", { x: 12, y: (height - box.b) / 2, "text-anchor": "middle", class: "axis", transform: `rotate(-90 12 ${(height - box.b) / 2})` }, yLabel));
  }

  const tick = (v) => (Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en-US") : Number(v.toPrecision(3)).toString()).replace("-", "−");

  /* A square matrix of values in [0, 1] with the numbers printed. */
  function matrix(names, values) {
    return el("table", { class: "matrix" },
      el("thead", {}, el("tr", {}, el("td", {}), names.map((name) => el("th", { scope: "col" }, clip(name, 14))))),
      el("tbody", {}, names.map((name, i) => el("tr", {}, el("th", { scope: "row" }, clip(name, 22)), names.map((_, j) => {
        const value = values[i][j], share = Math.min(1, Math.max(0, value ?? 0));
        const colour = InnerSight.mix(theme.panel, theme.activation, share * 0.85);
        return el("td", { style: { background: colour, color: InnerSight.ink(colour) } }, InnerSight.number(value));
      })))));
  }

  /* Several groupings of the same neurons side by side. A neuron keeps the colour of its community in the first column;
     within a column communities stand where most of their neurons come from, so that ribbons cross little.
     columns: {name, of: community of each neuron or -1, blocks: [{name, hue, open}]}; say(text) tells what is pointed at. */
  function alluvial(columns, say) {
    const n = columns[0].of.length, sizes = columns.map((c) => c.blocks.map((_, k) => c.of.filter((v) => v === k).length));
    const most = Math.max(...columns.map((c) => c.blocks.length)), gap = 5, top = 26, side = 96;
    const width = Math.max(620, 250 * columns.length), height = Math.max(230, Math.min(620, 27 * most)) + top;
    const unit = (height - top - gap * most) / Math.max(1, n);
    const x = (i) => side + (i * (width - 2 * side)) / Math.max(1, columns.length - 1);
    const place = [];
    columns.forEach((c, i) => {
      const from = (k) => {
        if (!i) return k;
        const at = c.of.flatMap((v, m) => (v === k && columns[i - 1].of[m] >= 0 ? [place[i - 1][columns[i - 1].of[m]]] : []));
        return at.length ? at.reduce((p, q) => p + q, 0) / at.length : Infinity;
      };
      const order = c.blocks.map((_, k) => [from(k), k]).sort((p, q) => p[0] - q[0] || p[1] - q[1]).map((p) => p[1]);
      let y = top + (height - top - sizes[i].reduce((p, q) => p + q, 0) * unit - gap * (order.length - 1)) / 2;
      place.push([]);
      for (const k of order) { place[i][k] = y; y += sizes[i][k] * unit + gap; }
    });
    const drawn = [], start = columns[0];
    const describe = (i, k) => {
      const c = columns[i], members = c.of.flatMap((v, m) => (v === k ? [m] : [])), text = [`${columns[i].name} ${c.blocks[k].name}: ${members.length} neurons`];
      columns.forEach((other, j) => {
        if (j === i) return;
        const shares = other.blocks.map((b, q) => [members.filter((m) => other.of[m] === q).length, b.name]).filter((s) => s[0]).sort((p, q) => q[0] - p[0]);
        text.push(`${other.name} ${shares.length === 1 ? "keeps them together" : `splits them ${shares.slice(0, 5).map((s) => s[0]).join(" + ")}${shares.length > 5 ? " + …" : ""}`}`);
      });
      return text.join(" · ");
    };
    const point = (members, text) => {
      const wanted = new Set(members);
      for (const r of drawn) r.node.classList.toggle("dim", members.length > 0 && !r.members.some((m) => wanted.has(m)));
      say(text);
    };
    const leave = () => point([], "");
    for (let i = 0; i + 1 < columns.length; i += 1) {
      const a = columns[i], b = columns[i + 1], groups = new Map();
      for (let m = 0; m < n; m += 1) {
        if (a.of[m] < 0 || b.of[m] < 0) continue;
        const key = `${a.of[m]} ${b.of[m]} ${start.of[m]}`;
        if (!groups.has(key)) groups.set(key, []);
        groups.get(key).push(m);
      }
      const rank = (j, k) => place[j][k] ?? -1, nextA = place[i].slice(), nextB = place[i + 1].slice();
      const all = Array.from(groups.values()), first = (g) => rank(0, start.of[g[0]]);
      const ends = new Map(all.map((g) => [g, []]));
      for (const [next, of, other, far] of [[nextA, a.of, b.of, i + 1], [nextB, b.of, a.of, i]]) {
        for (const g of all.slice().sort((p, q) => rank(far, other[p[0]]) - rank(far, other[q[0]]) || first(p) - first(q))) {
          ends.get(g).push(next[of[g[0]]]);
          next[of[g[0]]] += g.length * unit;
        }
      }
      const x1 = x(i) + 5, x2 = x(i + 1) - 5, middle = (x1 + x2) / 2;
      for (const g of all) {
        const [ya, yb] = ends.get(g), h = g.length * unit, k = start.of[g[0]];
        const d = `M${x1},${ya}C${middle},${ya} ${middle},${yb} ${x2},${yb}V${yb + h}C${middle},${yb + h} ${middle},${ya + h} ${x1},${ya + h}Z`;
        const text = `${g.length} neurons: ${a.name} ${a.blocks[a.of[g[0]]].name} → ${b.name} ${b.blocks[b.of[g[0]]].name}`;
        const node = svg("path", { d, fill: k < 0 ? theme.grey : InnerSight.hue(start.blocks[k].hue), class: "ribbon", onpointerenter: () => point(g, text), onpointerleave: leave }, svg("title", {}, text));
        drawn.push({ node, members: g });
      }
    }
    const blocks = columns.map((c, i) => [
      svg("text", { x: x(i), y: 14, "text-anchor": "middle", class: "axis" }, clip(c.name, 30)),
      c.blocks.map((block, k) => {
        const members = c.of.flatMap((v, m) => (v === k ? [m] : [])), h = Math.max(1, members.length * unit), last = i === columns.length - 1 && i > 0;
        const open = (event) => { if (event.type === "click" || event.key === "Enter") block.open?.(); };
        return svg("g", { class: "block", tabindex: 0, role: "button", "aria-label": describe(i, k), onclick: open, onkeydown: open, onfocus: () => point(members, describe(i, k)), onblur: leave, onpointerenter: () => point(members, describe(i, k)), onpointerleave: leave },
          svg("rect", { x: x(i) - 5, y: place[i][k], width: 10, height: h, rx: 2, fill: i ? theme.grey : InnerSight.hue(block.hue) }),
          svg("text", { x: last ? x(i) + 12 : x(i) - 12, y: place[i][k] + h / 2 + 4, "text-anchor": last ? "start" : "end" }, `${clip(block.name, 12)} · ${members.length}`));
      }),
    ]);
    return svg("svg", { viewBox: `0 0 ${width} ${height + 4}`, class: "chart alluvial", role: "img", "aria-label": `How ${columns.map((c) => c.name).join(", ")} group the same neurons` },
      drawn.map((r) => r.node), blocks);
  }

  InnerSight.charts = { bars, violins, heatmap, curve, matrix, alluvial };
})();
