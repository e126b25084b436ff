"use strict";
/* The picture as a file: PNG by a canvas, SVG by a pen that writes paths. */
(() => {
  const { state, paint, theme } = InnerSight;

  /* The few canvas calls the painter uses, written down as SVG. */
  class SvgPen {
    constructor() {
      this.out = [];
      this.d = "";
      Object.assign(this, { fillStyle: "#000", strokeStyle: "#000", lineWidth: 1, globalAlpha: 1, font: "12px sans-serif", textAlign: "left", textBaseline: "alphabetic", dash: [], lineCap: "butt" });
      this.stack = [];
    }
    save() { const { fillStyle, strokeStyle, lineWidth, globalAlpha, font, dash } = this; this.stack.push({ fillStyle, strokeStyle, lineWidth, globalAlpha, font, dash }); }
    restore() { Object.assign(this, this.stack.pop()); }
    setLineDash(dash) { this.dash = dash; }
    beginPath() { this.d = ""; }
    lineTo(x, y) { this.d += `L${f(x)},${f(y)}`; }
    moveTo(x, y) { this.d += `M${f(x)},${f(y)}`; }
    bezierCurveTo(a, b, c, d, x, y) { this.d += `C${f(a)},${f(b)} ${f(c)},${f(d)} ${f(x)},${f(y)}`; }
    quadraticCurveTo(a, b, x, y) { this.d += `Q${f(a)},${f(b)} ${f(x)},${f(y)}`; }
    arc(x, y, r) { this.d += `M${f(x - r)},${f(y)}a${f(r)},${f(r)} 0 1 0 ${f(2 * r)},0a${f(r)},${f(r)} 0 1 0 ${f(-2 * r)},0Z`; }
    roundRect(x, y, w, h, r) { this.d += `M${f(x + r)},${f(y)}h${f(w - 2 * r)}a${r},${r} 0 0 1 ${r},${r}v${f(h - 2 * r)}a${r},${r} 0 0 1 ${-r},${r}h${f(-(w - 2 * r))}a${r},${r} 0 0 1 ${-r},${-r}v${f(-(h - 2 * r))}a${r},${r} 0 0 1 ${r},${-r}Z`; }
    fill() { this.add("path", { d: this.d, fill: this.fillStyle, opacity: this.globalAlpha }); }
    stroke(path) {
      this.add("path", { d: path ? path.d : this.d, fill: "none", stroke: this.strokeStyle, "stroke-width": this.lineWidth, opacity: this.globalAlpha, "stroke-dasharray": this.dash.length ? this.dash.join(" ") : null });
    }
    fillText(text, x, y) {
      const [, weight, size, family] = /^(\d+) ([\d.]+)px (.*)$/.exec(this.font) || [null, "400", "12", "sans-serif"];
      const anchor = { left: "start", center: "middle", right: "end" }[this.textAlign];
      const shift = { alphabetic: 0, middle: 0.35, top: 0.8 }[this.textBaseline] * Number(size);
      this.add("text", { x: f(x), y: f(y + shift), fill: this.fillStyle, opacity: this.globalAlpha, "font-size": size, "font-weight": weight, "font-family": family, "text-anchor": anchor, stroke: theme.canvas, "stroke-width": Number(size) / 3.5, "stroke-linejoin": "round", "paint-order": "stroke" }, text);
    }
    measureText(text) { // The same words in the same font, measured where a canvas can.
      ruler.font = this.font;
      return ruler.measureText(text);
    }
    strokeText() {} // the rim of a label is an attribute in SVG, see fillText
    add(name, attributes, text) { this.out.push(InnerSight.svg(name, attributes, text)); }
  }
  const ruler = InnerSight.el("canvas").getContext("2d");
  const f = (value) => Math.round(value * 10) / 10;

  function area() {
    const { left, right, top, bottom } = InnerSight.scene().bounds();
    return { x: left - 50, y: top - 84, w: right - left + 200, h: bottom - top + 130 };
  }

  function draw(pen, newPath, scale) {
    const scene = InnerSight.scene(), { resting, chosen, lit, open } = InnerSight.graph.shown();
    paint.drawHeaders(pen, scene, state, scale);
    paint.drawBoxes(pen, scene, state, lit);
    paint.strokes(pen, scene, state, resting, { strong: false, newPath });
    paint.strokes(pen, scene, state, chosen, { strong: true, newPath });
    paint.drawDots(pen, paint.dots(scene, state, lit, open));
    if (state.view === "communities") paint.drawCircles(pen, scene, state, lit);
    paint.drawLabels(pen, scene, state, lit, 1);
    legend(pen);
  }

  /* The meaning of the lines travels with the picture. */
  function legend(pen) {
    const { x, y, h } = area(), at = y + h - 18;
    [["activation", [], "activation (weight > 0)", 0], ["inhibition", [5, 3], "inhibition (weight < 0)", 210]].forEach(([key, dash, words, right]) => {
      pen.globalAlpha = 1;
      pen.beginPath();
      pen.moveTo(x + 30 + right, at);
      pen.bezierCurveTo(x + 40 + right, at, x + 50 + right, at, x + 60 + right, at);
      pen.strokeStyle = theme[key];
      pen.lineWidth = 3;
      pen.setLineDash(dash);
      pen.stroke();
      pen.setLineDash([]);
      pen.fillStyle = theme.muted;
      pen.font = `400 13px ${theme.font}`;
      pen.textAlign = "left";
      pen.textBaseline = "middle";
      pen.fillText(words, x + 68 + right, at);
    });
  }

  function png() {
    const { x, y, w, h } = area(), scale = Math.min(2, 8000 / w, 8000 / h);
    const canvas = InnerSight.el("canvas");
    canvas.width = Math.ceil(w * scale);
    canvas.height = Math.ceil(h * scale);
    const pen = canvas.getContext("2d");
    pen.fillStyle = theme.canvas;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.scale(scale, scale);
    pen.translate(-x, -y);
    draw(pen, () => new Path2D(), Math.max(0.5, 900 / w));
    canvas.toBlob((blob) => save(blob, "png"), "image/png");
  }

  function svg() {
    const { x, y, w, h } = area(), pen = new SvgPen();
    draw(pen, () => Object.assign(new SvgPen(), { out: null }), Math.max(0.5, 900 / w));
    const root = InnerSight.svg("svg", { xmlns: "http://www.w3.org/2000/svg", viewBox: `${f(x)} ${f(y)} ${f(w)} ${f(h)}`, width: f(w), height: f(h) },
      InnerSight.svg("title", {}, InnerSight.data.title), InnerSight.svg("rect", { x: f(x), y: f(y), width: f(w), height: f(h), fill: theme.canvas }), pen.out);
    save(new Blob([new XMLSerializer().serializeToString(root)], { type: "image/svg+xml" }), "svg");
  }

  function save(blob, ending) {
    const link = InnerSight.el("a", { href: URL.createObjectURL(blob), download: `innersight-${state.view}.${ending}` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  InnerSight.exporting = { png, svg };
})();
