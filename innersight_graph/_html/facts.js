"use strict";
/* What was measured about a box, in the form the panel, the picture and the table ask for. */
(() => {
  const { el, points, pValue } = InnerSight;

  const of = (scene, box) => scene.facts?.boxes[box.id] || null;
  const closings = (scene) => scene.facts?.closings || [];
  const current = (scene, key) => closings(scene).find((closing) => closing.key === key) || closings(scene)[0] || null;
  const effect = (scene, box, key) => {
    const closing = current(scene, key);
    return (closing && of(scene, box)?.close?.[closing.key]) || null;
  };

  /* "digit 0", "digit 1", … are "0", "1", … where room is short. */
  function shortNames(scene) {
    if (!scene.shortNames) {
      const names = scene.facts.classes, first = names[0].split(" ");
      const lead = first.length > 1 && names.length > 1 && names.every((name) => name.startsWith(`${first[0]} `)) ? first[0].length + 1 : 0;
      scene.shortNames = names.map((name) => name.slice(lead));
    }
    return scene.shortNames;
  }

  function argmax(values) {
    let best = -1;
    values.forEach((value, i) => {
      if (Number.isFinite(value) && (best < 0 || value > values[best])) best = i;
    });
    return best;
  }

  /* The class a closing hurts most, and whether that is beyond what random groups of the same size do. */
  function hurts(scene, effect_) {
    if (!effect_) return null;
    if (!effect_.cls?.length || !scene.facts.classes.length) {
      return Number.isFinite(effect_.drop) ? { index: 0, name: "all", short: "all", drop: effect_.drop, supported: beyond(effect_) } : null;
    }
    const index = argmax(effect_.cls);
    if (index < 0) return null;
    return {
      index, name: scene.facts.classes[index], short: shortNames(scene)[index], drop: effect_.cls[index],
      supported: beyond(effect_),
    };
  }

  /* Is the effect beyond random groups of the same size? null: none were drawn. */
  function beyond(effect_) {
    const p = effect_.pSpecific ?? effect_.pNull;
    return Number.isFinite(p) ? p <= 0.05 : null;
  }

  /* certain: the evaluation lets the community be named after this class, whichever way it is closed. */
  function worst(scene, box, key) {
    const here = hurts(scene, effect(scene, box, key)), verdict = of(scene, box)?.verdict;
    if (!here) return null;
    const byClass_ = scene.facts.classes.length > 1;
    const certain = byClass_ ? verdict?.named === here.index : here.supported === true;
    return { ...here, certain, agree: verdict?.agree ?? true };
  }

  function tooltip(scene, found) {
    const box = scene.boxes[found.box], lines = [];
    if (found.neuron !== null && box.role !== "class") lines.push(el("b", {}, InnerSight.clip(scene.neuronName(found.neuron), 60)));
    lines.push(el(lines.length ? "span" : "b", {}, InnerSight.clip(box.name, 60), box.role === "class" ? ` · ${InnerSight.clip(box.short, 40)}` : ""));
    if (box.role !== "class") lines.push(el("span", { class: "muted" }, `${InnerSight.count(box.size)} neuron${box.size === 1 ? "" : "s"}`));
    const most = worst(scene, box, InnerSight.state.closing);
    if (most) lines.push(el("span", {}, `closed: ${InnerSight.clip(most.name, 24)} ${points(most.drop)} points`));
    return lines.map((line) => el("div", {}, line));
  }

  /* Boxes that a class depends on, largest drop first. */
  function byClass(scene, index, key) {
    return scene.boxes
      .map((box, i) => ({ box, i, effect: effect(scene, box, key) }))
      .filter((row) => row.effect?.cls && Number.isFinite(row.effect.cls[index]))
      .sort((a, b) => b.effect.cls[index] - a.effect.cls[index]);
  }

  /* A sentence that a reader who has not seen the paper can understand. */
  function sentence(scene, box, key) {
    const most = worst(scene, box, key), closed = effect(scene, box, key);
    if (!most) return null;
    if (box.role === "silent") return ["These neurons never fire on the images given; closing them changes accuracy by ", el("b", {}, `${points(closed.drop)} points`), "."];
    if (!(most.drop > 0)) return ["Closing it costs no class any accuracy."];
    const typical = closed.typicalWorst ?? closed.typical?.[most.index];
    const random = Number.isFinite(typical) ? `; a random group of its size costs its worst class ${(100 * typical).toFixed(0)}` : "";
    return ["Closing it costs ", el("b", {}, InnerSight.clip(most.name, 40)), " ", el("b", {}, `${(100 * most.drop).toFixed(0)} points`), ` of accuracy${random}. `, certainty(most, closed)];
  }

  function certainty(most, closed) {
    const p = pValue(closed.pSpecific ?? closed.pNull);
    if (most.certain) return el("span", { class: "good" }, `More specific than random groups of its size (p ${p}), set to zero and to its mean alike: it may be named after this class.`);
    if (most.supported === null) return el("span", { class: "warn" }, "No random groups were tried, so this may be chance.");
    if (!most.supported) return el("span", { class: "warn" }, `Not beyond random groups of its size (p ${p}): this may be chance.`);
    return el("span", { class: "warn" }, most.agree ? `More specific than random groups here (p ${p}), but not when closed another way: do not name it after this class.`
      : `More specific than random groups here (p ${p}), but closed another way it hurts another class most: do not name it after one.`);
  }

  InnerSight.facts = { of, effect, shortNames, current, closings, worst, tooltip, byClass, sentence };
})();
