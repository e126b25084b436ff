"use strict";
/* Reads the page's data: base64 columns become typed arrays, and neurons get their places from their boxes. */
const InnerSight = {};
(() => {
  const KINDS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i2: Int16Array, f4: Float32Array };
  const STEP = 18, PAD = 14;

  function decode(column) {
    const text = atob(column.b), raw = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) raw[i] = text.charCodeAt(i);
    return new KINDS[column.t](raw.buffer);
  }

  /* One scene is a graph, a partition of it and what was measured: the page can hold several. */
  class Scene {
    constructor(raw, index, earlier) {
      Object.assign(this, raw);
      this.index = index;
      this.byId = new Map(this.boxes.map((box, i) => [box.id, i]));
      this.offset = [0];
      for (const layer of this.layers) this.offset.push(this.offset[this.offset.length - 1] + layer.width);
      this.nNeurons = this.offset[this.layers.length];
      this.stacks = this.layers.map(() => []);
      this.boxes.forEach((box, i) => this.stacks[box.layer].push(i));
      this.stacks.forEach((stack) => stack.sort((a, b) => this.boxes[a].y - this.boxes[b].y));
      this.overview = this.overview || this.boxes.map((box) => ({ id: box.id }));
      this.flows = this.flows.map(([s, t, activation, inhibition, up, down, rest]) => ({ s, t, activation, inhibition, up, down, rest }));
      this.room = { neurons: this.spacing((box) => box.h / 2), communities: this.spacing((box) => box.radius) };
      this.flowAt = new Map(this.flows.map((flow) => [flow.s * this.boxes.length + flow.t, flow]));
      if (this.sharedWith !== undefined) {
        const { edges, weights } = earlier[this.sharedWith];
        Object.assign(this, { edges, weights });
      } else if (this.hasNeurons) {
        for (const key of ["s", "t", "w", "strength"]) this.edges[key] = decode(this.edges[key]);
        this.edges.n = this.edges.s.length;
        for (const block of this.weights || []) block.values = decode(block.values);
      }
      if (this.hasNeurons) this.readNeurons();
    }

    /* Least free height between two neighbours of a layer: what a label may take. */
    spacing(half) {
      let least = 60;
      for (const stack of this.stacks) {
        for (let k = 1; k < stack.length; k++) {
          const a = this.boxes[stack[k - 1]], b = this.boxes[stack[k]];
          if (a.role !== "class") least = Math.min(least, b.y - half(b) - a.y - half(a));
        }
      }
      return least;
    }

    readNeurons() {
      const n = this.nNeurons;
      this.x = new Float32Array(n);
      this.y = new Float32Array(n);
      this.boxOf = new Uint32Array(n);
      this.boxes.forEach((box, i) => {
        box.members = decode(box.members);
        box.members.forEach((member, rank) => {
          const at = this.offset[box.layer] + member;
          this.boxOf[at] = i;
          this.x[at] = box.x - box.w / 2 + PAD + STEP * (rank % box.columns);
          this.y[at] = box.y - box.h / 2 + PAD + STEP * Math.floor(rank / box.columns);
        });
      });
    }

    layerOf(neuron) {
      let layer = 0;
      while (this.offset[layer + 1] <= neuron) layer++;
      return layer;
    }

    neuronId(neuron) {
      const layer = this.layerOf(neuron);
      return `L${layer}n${neuron - this.offset[layer]}`;
    }

    neuronName(neuron) {
      const layer = this.layerOf(neuron), index = neuron - this.offset[layer];
      const names = this.layers[layer].names;
      return names ? names[index] : `${this.layers[layer].name}:${index}`;
    }

    /* "L1c7" is a box, "L1n5" a neuron (or the box of a single output); unknown names give null. */
    find(id) {
      if (this.byId.has(id)) return { box: this.byId.get(id), neuron: null };
      const match = /^L(\d+)n(\d+)$/.exec(id);
      if (!match || !this.hasNeurons) return null;
      const layer = Number(match[1]), index = Number(match[2]);
      if (layer >= this.layers.length || index >= this.layers[layer].width) return null;
      const neuron = this.offset[layer] + index;
      return { box: this.boxOf[neuron], neuron };
    }

    /* What lies at a point: the box, and the neuron in it when the point is close to one. */
    hit(x, y, asCircles) {
      for (let i = 0; i < this.boxes.length; i++) {
        const box = this.boxes[i], dx = x - box.x, dy = y - box.y;
        if (asCircles ? Math.hypot(dx, dy) <= box.radius + 4 : Math.abs(dx) <= box.w / 2 && Math.abs(dy) <= box.h / 2) {
          return { box: i, neuron: asCircles || !this.hasNeurons ? null : this.neuronAt(box, x, y) };
        }
      }
      return null;
    }

    neuronAt(box, x, y) {
      const column = Math.round((x - box.x + box.w / 2 - PAD) / STEP), row = Math.round((y - box.y + box.h / 2 - PAD) / STEP);
      const rank = row * box.columns + column;
      if (column < 0 || column >= box.columns || row < 0 || rank >= box.members.length) return null;
      return this.offset[box.layer] + box.members[rank];
    }

    /* Every connection of one neuron that the page knows, strongest first: all of them in small graphs. */
    connections(neuron) {
      const found = [];
      const layer = this.layerOf(neuron), index = neuron - this.offset[layer];
      if (!this.weights) {
        const { s, t, w, n } = this.edges;
        for (let e = 0; e < n; e++) {
          if (s[e] === neuron) found.push({ other: t[e], weight: w[e], incoming: false });
          else if (t[e] === neuron) found.push({ other: s[e], weight: w[e], incoming: true });
        }
      }
      for (const block of this.weights || []) {
        const columns = this.layers[block.target].width, rows = this.layers[block.source].width;
        if (block.target === layer) {
          for (let i = 0; i < rows; i++) {
            const value = block.values[i * columns + index];
            if (value) found.push({ other: this.offset[block.source] + i, weight: value * block.unit, incoming: true });
          }
        }
        if (block.source === layer) {
          for (let j = 0; j < columns; j++) {
            const value = block.values[index * columns + j];
            if (value) found.push({ other: this.offset[block.target] + j, weight: value * block.unit, incoming: false });
          }
        }
      }
      return found.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
    }

    bounds() {
      let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
      for (const layer of this.layers) top = Math.min(top, layer.top);
      for (const box of this.boxes) {
        left = Math.min(left, box.x - box.w / 2);
        right = Math.max(right, box.x + box.w / 2);
        top = Math.min(top, box.y - box.h / 2 - 20);
        bottom = Math.max(bottom, box.y + box.h / 2);
      }
      return { left, right, top, bottom };
    }
  }

  InnerSight.decode = decode;
  InnerSight.STEP = STEP;
  InnerSight.data = JSON.parse(document.getElementById("innersight-data").textContent);
  InnerSight.scenes = [];
  InnerSight.data.scenes.forEach((raw, index) => InnerSight.scenes.push(new Scene(raw, index, InnerSight.scenes)));
})();
