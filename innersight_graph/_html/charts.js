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

  /* Ribbons from the communities of one partition to those of another, one layer. */
  function alluvial(flows, leftNames, rightNames, hueOf) {
    const width = 560, gap = 5, total = flows.reduce((sum, row) => sum + row.reduce((a, b) => a + b, 0), 0);
    const rows = Math.max(leftNames.length, rightNames.length), height = Math.max(180, Math.min(520, 26 * rows));
    const unit = (height - gap * (rows - 1) - 4) / total;
    const leftSize = flows.map((row) => row.reduce((a, b) => a + b, 0));
    const rightSize = rightNames.map((_, j) => flows.reduce((sum, row) => sum + row[j], 0));
    const place = (sizes) => {
      let y = 2;
      return sizes.map((size) => { const at = y; y += size * unit + gap; return at; });
    };
    const leftY = place(leftSize), rightY = place(rightSize), nextL = leftY.slice(), nextR = rightY.slice();
    const x1 = 92, x2 = width - 92, middle = (x1 + x2) / 2, ribbons = [];
    flows.forEach((row, i) => row.forEach((n, j) => {
      if (!n) return;
      const h = n * unit, a = nextL[i], b = nextR[j];
      nextL[i] += h;
      nextR[j] += h;
      const d = `M${x1},${a}C${middle},${a} ${middle},${b} ${x2},${b}V${b + h}C${middle},${b + h} ${middle},${a + h} ${x1},${a + h}Z`;
      ribbons.push(svg("path", { d, fill: InnerSight.hue(hueOf(i)), class: "ribbon" }, svg("title", {}, `${clip(leftNames[i], 60)} to ${clip(rightNames[j], 60)}: ${n} neurons`)));
    }));
    const block = (x, ys, sizes, names, anchor, at) => names.map((name, i) => [
      svg("rect", { x, y: ys[i], width: 10, height: Math.max(1, sizes[i] * unit), rx: 2, fill: at(i), class: "block" }),
      svg("text", { x: anchor === "end" ? x - 6 : x + 16, y: ys[i] + (sizes[i] * unit) / 2 + 4, "text-anchor": anchor }, `${clip(name, 9)} · ${sizes[i]}`),
    ]);
    return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart alluvial", role: "img", "aria-label": `How ${leftNames.length} communities share their neurons with ${rightNames.length} others` },
      ribbons, block(x1 - 10, leftY, leftSize, leftNames, "end", (i) => InnerSight.hue(hueOf(i))), block(x2, rightY, rightSize, rightNames, "start", () => theme.grey));
  }

  InnerSight.charts = { bars, violins, heatmap, curve, matrix, alluvial };
})();
