"use strict";
/* The panel beside the picture: the table of communities, or everything known about what is selected. */
(() => {
  const { el, state, clip, count, points, number, pValue, percent, facts, charts } = InnerSight;
  const host = document.getElementById("facts"), list = document.getElementById("communities");
  const MANY = 24; // rows of a list before it is cut

  const scene = () => InnerSight.scene();
  const swatch = (box) => el("span", { class: `swatch ${box.role}`, style: { background: box.role === "silent" ? "transparent" : InnerSight.hue(box.hue) }, "aria-hidden": "true" });
  const link = (i, text, options = {}) => el("button", {
    class: "link", type: "button", title: text ?? scene().boxes[i].name, onclick: () => InnerSight.select(i, options),
  }, InnerSight.tail(text ?? scene().boxes[i].name, 40));

  const section = (title, ...children) => el("section", {}, el("h3", {}, title), ...children);
  const pairs = (rows) => el("dl", { class: "pairs" }, rows.filter(Boolean).map(([key, value]) => [el("dt", {}, key), el("dd", {}, value)]));

  function closingSwitch() {
    const all = facts.closings(scene());
    if (all.length < 2) return null;
    const now = facts.current(scene(), state.closing);
    return el("div", { class: "segmented small", role: "group", "aria-label": "How a community is closed" }, all.map((closing) =>
      el("button", { type: "button", "data-closing": closing.key, "aria-pressed": String(closing === now), onclick: () => InnerSight.update({ closing: closing.key }) }, closing.label)));
  }

  function effectSection(effect, closing, title = "Accuracy when closed") {
    if (!effect) return null;
    const names = scene().facts.classes, cls = effect.cls || [];
    const all = { name: "all classes", drop: effect.drop, lo: effect.lo, hi: effect.hi, band: effect.bandAll, low: effect.lowAll, strong: true, sure: certain(effect.p) };
    let rows = cls.map((drop, i) => ({ name: names[i], drop, lo: effect.clo?.[i], hi: effect.chi?.[i], band: effect.band?.[i], low: effect.low?.[i], sure: certain(effect.cp?.[i]) }));
    let cut = null;
    if (rows.length > MANY) {
      rows = rows.filter((row) => Number.isFinite(row.drop)).sort((a, b) => Math.abs(b.drop) - Math.abs(a.drop));
      cut = el("p", { class: "muted" }, `The ${MANY / 2} largest of ${count(names.length)} classes.`);
      rows = rows.slice(0, MANY / 2);
    }
    const hasBand = Number.isFinite(effect.bandAll) || effect.band?.some(Number.isFinite), hasWhisker = Number.isFinite(effect.lo) || effect.clo?.some(Number.isFinite);
    return section(title, closingSwitch(), charts.bars([all, ...rows]), cut, el("p", { class: "key" },
      closing.metric === "classification" ? "" : `Change of the score (${closing.metric}) times 100. `,
      `Percentage points on ${closing.n ? `${count(closing.n)} images` : "the data given"}${closing.split ? ` (${closing.split})` : ""}; untouched accuracy ${percent(closing.baseline)}. `,
      hasBand && [el("span", { class: "key-band" }), `where 95 % of ${closing.nulls ? count(closing.nulls) + " " : ""}random groups of the same size and layer stay. `],
      hasWhisker && "Whiskers: 95 % intervals. ", (hasBand || rows.some((row) => row.sure !== undefined)) && "● a change that chance does not explain (exact test, corrected for all communities and classes)."));
  }

  const certain = (p) => (Number.isFinite(p) ? p <= 0.05 : undefined);

  function mapSection(fact, box) {
    const map = fact.map;
    if (!map) return null;
    const values = map.values.t ? (map.values = InnerSight.decode(map.values)) : map.values;
    const images = scene().facts?.images, own = fact.samples?.includes(state.picture) ? images.samples[state.picture] : null;
    const behind = own || images?.mean;
    if (behind && behind.grey.t) behind.grey = InnerSight.decode(behind.grey);
    const most = scene().facts.mapTop[box.layer], top = state.sharedScale && most > 0 && map.top > 0 ? (255 * most) / map.top : 255;
    const heat = charts.heatmap({ w: map.w, h: map.h, values }, { top, label: "Sensitivity map: how much a community reacts to covering each place" });
    const scale = el("button", { type: "button", class: "link", onclick: () => InnerSight.update({ sharedScale: !state.sharedScale }) }, state.sharedScale ? "use its own scale" : "use one scale for the layer");
    return section("Sensitivity map", el("div", { class: "maps" }, el("figure", {}, heat, el("figcaption", {}, "reaction to covering")),
      behind && behind.w === map.w && behind.h === map.h && el("figure", {}, charts.heatmap({ w: map.w, h: map.h, values }, { top, under: behind.grey, label: "The same over an image" }), el("figcaption", {}, own ? `over this ${clip(own.name, 20)}` : "over the mean image"))),
      el("p", { class: "key" }, `Scale: ${state.sharedScale ? "one for the whole layer" : "this community alone"}; its largest value is ${number(map.top, 3)}. `, scale));
  }

  function activationSection(fact, box) {
    const activation = fact.activation;
    if (!activation) return null;
    const names = facts.shortNames(scene());
    const groups = activation.groups.slice(0, 40).map((group, i) => ({ name: names[i] ?? i, mean: group[0], density: group[1] }));
    return section("Activation by class", charts.violins(groups, activation.range, InnerSight.hue(box.hue)),
      el("p", { class: "key" }, `Mean activation of the community per image, from ${number(activation.range[0])} to ${number(activation.range[1])}; the tick is the mean.`));
  }

  function samplesSection(fact) {
    const images = scene().facts?.images;
    if (!images || !fact.samples?.length) return null;
    const grid = fact.samples.map((at) => images.samples[at]).filter(Boolean).map((image) => {
      if (image.grey.t) image.grey = InnerSight.decode(image.grey);
      const at = images.samples.indexOf(image), on = state.picture === at;
      return el("button", { type: "button", "aria-pressed": String(on), title: "Show the sensitivity map over this image", onclick: () => InnerSight.update({ picture: on ? null : at }) },
        charts.heatmap(image, { label: `image of class ${clip(image.name, 40)}`, size: 44 }), el("span", {}, clip(image.name, 9)));
    });
    return section("Images that activate it most", el("div", { class: "samples" }, grid));
  }

  function scoresSection(fact) {
    const names = Object.keys(fact.scores || {});
    if (!names.length) return null;
    return section("Scores", el("table", { class: "plain" }, el("tbody", {}, names.map((name) => {
      const [value, p] = fact.scores[name];
      return el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "num" }, number(value, 3)), el("td", { class: "num muted" }, Number.isFinite(p) ? `p ${pValue(p)}` : ""));
    }))));
  }

  /* Strongest connections of boxes, activation and inhibition apart, as links. */
  function neighbours(i) {
    const s = scene(), kinds = [
      ["Excited by", "t", "s", "activation"], ["Inhibited by", "t", "s", "inhibition"],
      ["Excites", "s", "t", "activation"], ["Inhibits", "s", "t", "inhibition"],
    ];
    const lists = kinds.map(([title, own, other, key]) => {
      const rows = s.flows.filter((flow) => flow[own] === i && flow[key] > 0).sort((a, b) => b[key] - a[key]);
      if (!rows.length) return null;
      const total = rows.reduce((sum, flow) => sum + flow[key], 0);
      return el("div", {}, el("h4", {}, el("span", { class: `stroke ${key}`, "aria-hidden": "true" }), title), el("ul", {}, rows.slice(0, 4).map((flow) =>
        el("li", {}, link(flow[other], boxTitle(s, s.boxes[flow[other]])), el("span", { class: "num muted" }, percent(flow[key] / total))))));
    }).filter(Boolean);
    return lists.length ? section("Connections", el("div", { class: "neighbours" }, lists), el("p", { class: "key" }, "Share of the summed weight of that kind.")) : null;
  }

  const boxTitle = (s, box) => (box.role === "class" ? box.short : box.name);

  function community(i) {
    const s = scene(), box = s.boxes[i], fact = facts.of(s, box) || {}, closing = facts.current(s, state.closing);
    const says = facts.sentence(s, box, state.closing);
    return [
      head(swatch(box), boxTitle(s, box), `${count(box.size)} neuron${box.size === 1 ? "" : "s"} of ${s.layers[box.layer].title}${box.role === "silent" ? ", silent" : ""} · found by ${s.method}`),
      says && el("p", { class: "says" }, says),
      effectSection(facts.effect(s, box, state.closing), closing),
      mapSection(fact, box), activationSection(fact, box), samplesSection(fact), neighbours(i), scoresSection(fact), members(i),
    ];
  }

  function members(i) {
    const s = scene(), box = s.boxes[i];
    if (!s.hasNeurons || !box.size) return null;
    const shown = Array.from(box.members.slice(0, 60), (member) => s.offset[box.layer] + member);
    return section("Neurons", el("p", { class: "chips" }, shown.map((neuron) => el("button", { type: "button", class: "chip", onclick: () => InnerSight.select(i, { neuron }) }, clip(shortName(s, neuron), 14))),
      box.size > shown.length && el("span", { class: "muted" }, ` and ${count(box.size - shown.length)} more`)));
  }

  const shortName = (s, neuron) => (s.layers[s.layerOf(neuron)].names ? s.neuronName(neuron) : String(neuron - s.offset[s.layerOf(neuron)]));

  function output(i) {
    const s = scene(), box = s.boxes[i], index = box.members ? box.members[0] : s.stacks[box.layer].indexOf(i);
    const rows = facts.byClass(s, index, state.closing), closing = facts.current(s, state.closing), base = closing?.classBaseline?.[index];
    const matter = rows.slice(0, 12);
    return [
      head(swatch(box), boxTitle(s, box), `output ${box.name}${Number.isFinite(base) ? ` · untouched accuracy ${percent(base)}` : ""}`),
      matter.length ? section("Communities it depends on", closingSwitch(), charts.bars(matter.map((row) => ({
        name: row.box.name, drop: row.effect.cls[index], lo: row.effect.clo?.[index], hi: row.effect.chi?.[index], band: row.effect.band?.[index], low: row.effect.low?.[index],
        sure: certain(row.effect.cp?.[index]),
      }))), el("ul", { class: "inline" }, matter.map((row) => el("li", {}, link(row.i)))), el("p", { class: "key" }, "Change of this class's accuracy, in points, when each community is closed. ● a change that chance does not explain (exact test, corrected).")) : null,
      neighbours(i),
    ];
  }

  function neuron(at) {
    const s = scene(), box = s.boxes[s.boxOf[at]], all = s.connections(at);
    const soft = s.layers[box.layer].responsibilities, layer = s.layerOf(at), index = at - s.offset[layer];
    let belongs = null, confidence = null;
    if (soft) {
      const values = soft.values.t ? (soft.values = InnerSight.decode(soft.values)) : soft.values, k = soft.ids.length;
      const rows = soft.ids.map((id, c) => ({ id, share: values[index * k + c] / 255 })).sort((a, b) => b.share - a.share);
      confidence = rows[0].share;
      belongs = section("Belongs to", el("ul", { class: "meters" }, rows.filter((row) => row.share > 0.004).slice(0, 5).map((row) => el("li", {}, link(s.byId.get(row.id)), el("meter", { min: 0, max: 1, value: row.share, "aria-label": percent(row.share) }), el("span", { class: "num" }, percent(row.share))))));
    }
    const lists = [["Excited by", true, 1], ["Inhibited by", true, -1], ["Excites", false, 1], ["Inhibits", false, -1]].map(([title, incoming, sign]) => {
      const rows = all.filter((row) => row.incoming === incoming && Math.sign(row.weight) === sign).slice(0, 5);
      return rows.length && el("div", {}, el("h4", {}, el("span", { class: `stroke ${sign > 0 ? "activation" : "inhibition"}`, "aria-hidden": "true" }), title), el("ul", {}, rows.map((row) =>
        el("li", {}, link(s.boxOf[row.other], s.boxes[s.boxOf[row.other]].role === "class" ? s.boxes[s.boxOf[row.other]].short : s.neuronName(row.other), { neuron: s.boxes[s.boxOf[row.other]].role === "class" ? null : row.other }), el("span", { class: "num muted" }, number(row.weight, 2))))));
    });
    return [
      head(swatch(box), s.neuronName(at), ["neuron of ", link(s.boxOf[at]), confidence === null ? null : ` · confidence ${percent(confidence)}`]),
      belongs, section("Weights", el("div", { class: "neighbours" }, lists), el("p", { class: "key" }, s.weights ? `Strongest of all ${count(all.length)} connections.` : "Strongest of the connections drawn on this page.")),
    ];
  }

  function several() {
    const s = scene(), boxes = state.selected.map((i) => s.boxes[i]), closing = facts.current(s, state.closing);
    const key = boxes.map((box) => box.id).sort().join("+"), joint = closing && s.facts?.joint?.[closing.key]?.[key];
    const sum = boxes.reduce((total, box) => total + (facts.effect(s, box, state.closing)?.drop ?? NaN), 0);
    return [
      head(null, `${boxes.length} communities`, `${count(boxes.reduce((total, box) => total + box.size, 0))} neurons together`),
      el("ul", { class: "inline" }, state.selected.map((i) => el("li", {}, swatch(s.boxes[i]), link(i)))),
      joint ? [effectSection(joint, closing, "Accuracy when closed together"), Number.isFinite(sum) && el("p", { class: "key" },
        `One by one they cost ${points(sum)} points in all; together ${points(joint.drop)}: ${joint.drop > sum + 0.005 ? "they stand in for each other (redundant)" : joint.drop < sum - 0.005 ? "their effects overlap" : "their effects add up"}.`)]
        : el("p", { class: "muted" }, "Their joint closing was not computed. Evaluate with Ablation(model, data, joint=2) to have it here."),
      el("table", { class: "plain" }, el("thead", {}, el("tr", {}, el("th", {}, "alone"), el("th", { class: "num" }, "all classes"), el("th", {}, "hurts most"))), el("tbody", {}, boxes.map((box) => {
        const worst = facts.worst(s, box, state.closing);
        return el("tr", {}, el("th", { scope: "row" }, clip(box.name, 24)), el("td", { class: "num" }, points(facts.effect(s, box, state.closing)?.drop)), el("td", {}, worst ? `${clip(worst.name, 14)} ${points(worst.drop)}` : "–"));
      }))),
    ];
  }

  function head(mark, title, under) {
    return el("header", {}, el("button", { type: "button", class: "back", onclick: () => InnerSight.select(null), title: "Back to the list (Esc)" }, "← all"), el("h2", {}, mark, clip(title, 60)), el("p", { class: "muted" }, under));
  }

  /* All of a row opens what its name opens; the name itself is the button that keyboards and readers find. */
  function anywhere(event) {
    if (!event.target.closest("button")) event.currentTarget.querySelector("button").click();
  }

  /* The rows came with the page; here they get the closing that is chosen, and an order. */
  function table() {
    const s = scene(), rows = s.boxes.map((box, i) => ({ box, i, worst: facts.worst(s, box, state.closing), effect: facts.effect(s, box, state.closing) }))
      .filter((row) => row.box.community !== null);
    const measured = rows.some((row) => row.worst);
    rows.sort((a, b) => (b.worst?.drop ?? -Infinity) - (a.worst?.drop ?? -Infinity) || b.box.size - a.box.size || a.i - b.i);
    const empty = s.empty.map((name) => el("tr", { class: "muted" }, el("td", {}, clip(name, 40)), el("td", { class: "num" }, "0"), measured && el("td", {}, "no neurons"), measured && el("td")));
    list.replaceChildren(el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "community"), el("th", { scope: "col", class: "num" }, "size"), measured && [el("th", { scope: "col" }, "hurts most"), el("th", { scope: "col", class: "num" }, "points")])),
      el("tbody", {}, rows.slice(0, 400).map(({ box, i, worst }) => el("tr", { "data-id": box.id, class: worst && !worst.certain ? "unsure" : "", onclick: anywhere },
        el("td", {}, swatch(box), link(i)), el("td", { class: "num" }, count(box.size)),
        measured && [el("td", {}, worst?.drop > 0 ? clip(worst.name, 16) : "–", worst?.drop > 0 && !worst.certain && el("span", { class: "muted", title: "not beyond random groups, or ways of closing disagree" }, " ?")), el("td", { class: "num" }, worst ? points(worst.drop) : "–", el("span", { class: "mark" }, worst?.certain ? " ●" : " "))])), empty));
    document.getElementById("table-note").textContent = rows.length > 400 ? `The first 400 of ${count(rows.length)} communities; search finds the others.` : "";
    document.getElementById("lead").textContent = s.lead;
    document.getElementById("closing-switch").replaceChildren(...[closingSwitch()].filter(Boolean));
  }

  function render(changed) {
    if (changed && ![...changed].some((key) => ["scene", "selected", "neuron", "closing", "sharedScale", "picture", "theme"].includes(key))) return;
    table();
    const { selected } = state, s = scene();
    let content = [];
    if (state.neuron !== null) content = neuron(state.neuron);
    else if (selected.length > 1) content = several();
    else if (selected.length === 1) content = s.boxes[selected[0]].role === "class" ? output(selected[0]) : community(selected[0]);
    host.replaceChildren(...content.flat(2).filter(Boolean));
    host.hidden = !selected.length;
    document.getElementById("overview").hidden = selected.length > 0;
    if (changed?.has("selected")) document.getElementById("panel").scrollTop = 0;
  }

  InnerSight.panel = { render };
})();
