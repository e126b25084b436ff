"use strict";
/* The pages behind the picture: methods compared, the search over r, and the findings in words. */
(() => {
  const { el, state, clip, count, number, percent, charts, data } = InnerSight;
  const compareView = { left: 0, right: Math.min(1, InnerSight.scenes.length - 1), layer: null };

  const choice = (label, names, value, change) => el("label", {}, `${label} `, el("select", { onchange: (event) => change(Number(event.target.value)) },
    names.map((name, i) => el("option", { value: i, selected: i === value }, clip(name, 50)))));

  function compare() {
    const host = document.getElementById("compare-body"), given = data.compare;
    if (!given) return host.replaceChildren(el("p", { class: "muted" }, "This page holds one partition. Pass alternatives= to to_html to compare methods here."));
    const parts = [scoreTable(given)];
    if (given.agreement) {
      parts.push(el("h2", {}, "Agreement"), el("p", { class: "muted" }, "Adjusted Rand index over all partitioned neurons: 1 is the same grouping, 0 is chance."), el("div", { class: "scroll" }, charts.matrix(given.names, given.agreement)));
    }
    const same = given.comparable || [];
    if (same.length > 1) parts.push(el("h2", {}, "Who goes where"), ribbons(same));
    return host.replaceChildren(...parts.flat().filter(Boolean));
  }

  function scoreTable(given) {
    return [el("h2", {}, "Scores"), el("div", { class: "scroll" }, el("table", { class: "plain wide" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "partition"), el("th", { scope: "col", class: "num" }, "communities"), given.columns.map((name) => el("th", { scope: "col", class: "num" }, clip(name, 30))))),
      el("tbody", {}, given.names.map((name, i) => el("tr", {}, el("th", { scope: "row" }, given.scene[i] === null ? clip(name, 40) : el("button", { class: "link", type: "button", onclick: () => InnerSight.update({ scene: given.scene[i], selected: [], neuron: null, tab: "graph" }) }, clip(name, 40))),
        el("td", { class: "num" }, count(given.sizes[i])), given.rows[i].map((value) => el("td", { class: "num" }, typeof value === "string" ? clip(value, 30) : number(value, 3)))))))),
      given.note && el("p", { class: "key" }, given.note)];
  }

  function ribbons(same) {
    const scenes = same.map((i) => InnerSight.scenes[i]), names = scenes.map((s) => s.label);
    const layers = scenes[0].layers.map((_, i) => i).filter((i) => scenes.some((s) => s.stacks[i].some((b) => s.boxes[b].community !== null)));
    if (!layers.includes(compareView.layer)) compareView.layer = layers[0];
    const again = (key) => (value) => { compareView[key] = key === "layer" ? layers[value] : value; compare(); };
    const left = scenes[Math.min(compareView.left, scenes.length - 1)], right = scenes[Math.min(compareView.right, scenes.length - 1)];
    const a = left.stacks[compareView.layer], b = right.stacks[compareView.layer];
    const of = new Map(b.flatMap((box, j) => Array.from(right.boxes[box].members, (member) => [member, j])));
    const flows = a.map((box) => {
      const row = b.map(() => 0);
      for (const member of left.boxes[box].members) row[of.get(member)] += 1;
      return row;
    });
    const total = flows.flat().reduce((x, y) => x + y, 0);
    const kept = flows.reduce((sum, row) => sum + Math.max(...row), 0);
    return [el("p", { class: "choices" }, choice("from", names, compareView.left, again("left")), choice("to", names, compareView.right, again("right")),
      choice("layer", layers.map((i) => scenes[0].layers[i].title), layers.indexOf(compareView.layer), again("layer"))),
    charts.alluvial(flows, a.map((i) => left.boxes[i].short), b.map((i) => right.boxes[i].short), (i) => left.boxes[a[i]].hue),
    el("p", { class: "key" }, `Ribbons are neurons. ${percent(kept / total)} of them stay with the largest part of their community.`)];
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
