"use strict";
/* The pages behind the picture: methods compared, the search over r, and the findings in words. */
(() => {
  const { el, state, clip, count, number, percent, charts, data } = InnerSight;
  const compareView = { shown: null, layer: null };
  const MOST_COLUMNS = 4;

  const choice = (label, names, value, change) => el("label", {}, `${label} `, el("select", { onchange: (event) => change(Number(event.target.value)) },
    names.map((name, i) => el("option", { value: i, selected: i === value }, clip(name, 50)))));

  function compare() {
    const host = document.getElementById("compare-body"), given = data.compare;
    if (!given) return host.replaceChildren(el("p", { class: "muted" }, "This page holds one partition. Pass alternatives= to to_html to compare methods here."));
    const parts = [], same = given.comparable || [];
    if (given.agreement) parts.push(el("p", { class: "lead" }, inWords(given)));
    if (same.length > 1) parts.push(el("h2", {}, "Who goes where"), ribbons(same));
    parts.push(scoreTable(given));
    if (given.agreement) {
      parts.push(el("h2", {}, "Agreement"), el("p", { class: "muted" }, "Adjusted Rand index over all partitioned neurons: 1 is the same grouping, 0 is chance."), el("div", { class: "scroll" }, charts.matrix(given.names, given.agreement)));
    }
    return host.replaceChildren(...parts.flat().filter(Boolean));
  }

  /* The agreement of all pairs in one sentence: is there one grouping, or are there several? */
  function inWords({ names, agreement }) {
    const pairs = names.flatMap((a, i) => names.slice(0, i).map((b, j) => ({ a, b, ari: agreement[i][j] }))).filter((p) => Number.isFinite(p.ari));
    if (!pairs.length) return "";
    pairs.sort((p, q) => q.ari - p.ari);
    const best = pairs[0], worst = pairs[pairs.length - 1], mean = pairs.reduce((sum, p) => sum + p.ari, 0) / pairs.length;
    const verdict = mean > 0.8 ? "They found the same grouping." : mean > 0.4 ? "They agree in the main and differ in detail." : "They did not find one and the same grouping.";
    const pair = (p) => `${clip(p.b, 30)} and ${clip(p.a, 30)} (${number(p.ari)})`;
    return names.length === 2 ? `Two ways of grouping the same neurons agree to an adjusted Rand index of ${number(mean)}. ${verdict}`
      : `${count(names.length)} ways of grouping the same neurons agree to ${number(mean)} on average (adjusted Rand index). ${verdict} Closest are ${pair(best)}, furthest apart ${pair(worst)}.`;
  }

  /* A number over a bar as long as its share of the column's largest. */
  function cell(value, most) {
    if (typeof value !== "number") return el("td", { class: "num" }, typeof value === "string" ? clip(value, 30) : "–");
    const share = most > 0 ? Math.max(0, value / most) * 100 : 0, colour = InnerSight.mix(InnerSight.theme.panel, InnerSight.theme.activation, 0.28);
    return el("td", { class: "num", style: { background: `linear-gradient(90deg, ${colour} ${share.toFixed(1)}%, transparent ${share.toFixed(1)}%)` } }, Number.isInteger(value) && Math.abs(value) >= 1 ? count(value) : number(value, Math.abs(value) >= 10 ? 1 : 3));
  }

  function scoreTable(given) {
    const most = given.columns.map((_, j) => Math.max(...given.rows.map((row) => (typeof row[j] === "number" ? row[j] : 0))));
    return [el("h2", {}, "Scores"), el("div", { class: "scroll" }, el("table", { class: "plain wide" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "partition"), el("th", { scope: "col", class: "num" }, "communities"), given.columns.map((name) => el("th", { scope: "col", class: "num" }, clip(name, 30))))),
      el("tbody", {}, given.names.map((name, i) => el("tr", {}, el("th", { scope: "row" }, given.scene[i] === null ? clip(name, 40) : el("button", { class: "link", type: "button", onclick: () => InnerSight.update({ scene: given.scene[i], selected: [], neuron: null, tab: "graph" }) }, clip(name, 40))),
        el("td", { class: "num" }, count(given.sizes[i])), given.rows[i].map((value, j) => cell(value, most[j]))))))),
      given.note && el("p", { class: "key" }, given.note)];
  }

  /* All partitions of these neurons in a row; the reader chooses which, and where the colours come from. */
  function ribbons(same) {
    const scenes = same.map((i) => InnerSight.scenes[i]);
    const layers = scenes[0].layers.map((_, i) => i).filter((i) => scenes.some((s) => s.stacks[i].some((b) => s.boxes[b].community !== null)));
    if (!layers.includes(compareView.layer)) compareView.layer = layers[0];
    compareView.shown = (compareView.shown || same.slice(0, MOST_COLUMNS)).filter((i) => same.includes(i));
    const told = el("p", { class: "key told", "aria-live": "polite" }), hint = "Each neuron keeps the colour of its community in the first column. Point at a community to follow its neurons; click it to see what it does.";
    const say = (text) => { told.textContent = text || hint; };
    const toggle = (i) => {
      const on = compareView.shown.includes(i), rest = compareView.shown.filter((j) => j !== i);
      if (on && rest.length < 2) return;
      compareView.shown = on ? rest : [...rest, i];
      compare();
    };
    const chips = same.map((i) => el("button", { type: "button", class: "chip", "aria-pressed": String(compareView.shown.includes(i)), onclick: () => toggle(i) }, clip(InnerSight.scenes[i].label, 30)));
    say("");
    return [el("p", { class: "choices" }, el("span", {}, chips), choice("layer", layers.map((i) => scenes[0].layers[i].title), layers.indexOf(compareView.layer), (value) => { compareView.layer = layers[value]; compare(); })),
      el("div", { class: "scroll" }, charts.alluvial(compareView.shown.map((i) => column(i, compareView.layer)), say)), told];
  }

  function column(i, layer) {
    const s = InnerSight.scenes[i], boxes = s.stacks[layer];
    const seat = new Map(boxes.flatMap((box, k) => Array.from(s.boxes[box].members, (member) => [member, k])));
    const members = Array.from(seat.keys()).sort((p, q) => p - q);
    return { name: s.label, of: members.map((member) => seat.get(member)),
      blocks: boxes.map((box) => ({ name: s.boxes[box].short, hue: s.boxes[box].hue, open: () => InnerSight.update({ scene: i, selected: [box], neuron: null, tab: "graph" }) })) };
  }

  function search() {
    const host = document.getElementById("search-body"), s = InnerSight.scene(), parts = [];
    if (s.search?.length) {
      parts.push(el("p", { class: "lead" }, `How many communities? ${s.label}: the criterion for every number r that was tried; the ring is what was chosen.`),
        el("div", { class: "curves" }, s.search.map((item) => el("figure", {}, el("figcaption", {}, el("b", {}, clip(item.title, 40)), ` · chosen r = ${item.chosen ?? "–"}`, item.stability === null ? "" : `, agreement of the best starts ${number(item.stability)}`),
          item.x.length > 1 ? [charts.curve({ x: item.x, series: [{ y: item.y }], chosen: item.chosen, xLabel: "number of communities r", yLabel: item.label }),
            item.heldOut && charts.curve({ x: item.x, series: [{ y: item.heldOut }], chosen: item.chosen, xLabel: "number of communities r", yLabel: "held-out nats per neuron", height: 150 })] : el("p", { class: "muted" }, "r was given, not searched.")))));
    }
    if (data.sweep) {
      parts.push(el("h2", {}, "Density sweep"), el("p", { class: "muted" }, data.sweep.words), el("div", { class: "curves" }, data.sweep.panels.map((panel) =>
        el("figure", {}, el("figcaption", {}, el("b", {}, clip(panel.title, 60))), panel.matrix ? charts.matrix(panel.names, panel.matrix) : charts.curve(panel)))));
    }
    if (!parts.length) parts.push(el("p", { class: "muted" }, `${s.label} was found without a search over the number of communities.`));
    host.replaceChildren(...parts);
  }

  const WORDS = { yes: "supported", no: "not supported", open: "cannot be decided here", info: "for reading" };
  function findings() {
    const host = document.getElementById("findings-body"), s = InnerSight.scene();
    const groups = ["yes", "no", "open", "info"].map((kind) => [kind, [...s.findings, ...data.findings].filter((item) => item.kind === kind)]);
    host.replaceChildren(...groups.filter(([, items]) => items.length).map(([kind, items]) => el("section", { class: `finding ${kind}` }, el("h2", {}, WORDS[kind]), el("ul", {}, items.map((item) => el("li", {},
      clip(item.text, 4000), (item.boxes || []).filter((id) => s.byId.has(id)).slice(0, 12).map((id) => [" ", el("button", { type: "button", class: "chip", onclick: () => InnerSight.update({ tab: "graph", selected: [s.byId.get(id)], neuron: null }) }, clip(s.boxes[s.byId.get(id)].name, 24))])))))));
  }

  function render(changed) {
    const matters = !changed || ["tab", "scene", "theme"].some((key) => changed.has(key));
    if (!matters) return;
    for (const button of document.querySelectorAll("[role=tab]")) {
      const on = button.id === `tab-${state.tab}`;
      button.setAttribute("aria-selected", String(on));
      button.tabIndex = on ? 0 : -1;
      document.getElementById(button.getAttribute("aria-controls")).hidden = !on;
    }
    document.getElementById("tools").hidden = state.tab !== "graph";
    ({ compare, search, findings })[state.tab]?.();
  }

  InnerSight.tabs = { render };
})();
