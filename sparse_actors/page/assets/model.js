// What is known of the run: the tiles with their findings, and two small pictures of all tiles together.

import { STATE, paint, phaseColour, rgb } from "./colours.js";
import { tileIndex, tileName } from "./words.js";

const FILLED = new Set(["scanning", "detecting", "rescanning", "mapping"]);

export class Model {
  constructor() {
    this.layout = { name: "" };
    this.clear();
  }

  clear() {
    this.tiles = new Map();
    this.fields = new Map();
    this.events = [];
    this.run = null;
    this.map = null;
    this.arrays = {};
    this.overview = document.createElement("canvas");
    this.stateLayer = document.createElement("canvas");
    this.imaged = new Set();
  }

  // Take in a message; returns the parts of the page that change.
  take(message) {
    const changed = new Set();
    if (message.layout) {
      this.clear();
      this.layout = message.layout;
      if (this.layout.name) this.#makeCanvases();
      changed.add("layout");
    }
    for (const tile of message.tiles ?? []) this.#takeTile(tile);
    if (message.tiles) changed.add("tiles");
    for (const block of message.blocks) this.#takeBlock(block, changed);
    if (message.events) {
      this.events.push(...message.events);
      this.events.splice(0, Math.max(0, this.events.length - 300));
      changed.add("events");
    }
    if (message.map) {
      this.map = message.map;
      changed.add("map");
      const shown = this.fields.get(message.map.field);
      if (shown && this.arrays.phases) paint(shown.canvas, message.map.size, (at) => phaseColour(this.arrays.phases[at]));
    }
    if (message.run) { this.run = message.run; changed.add("run"); }
    return changed;
  }

  #makeCanvases() {
    const { columns, rows } = this.layout;
    this.cell = null;
    this.stateLayer.width = columns;
    this.stateLayer.height = rows;
  }

  #takeTile(message) {
    const before = this.tiles.get(message.i);
    const tile = { regions: [], pois: [], ...before, ...message };
    if (message.r) { tile.regions = message.r; tile.pois = message.p; delete tile.r; delete tile.p; }
    tile.state = this.layout.states[message.s];
    this.tiles.set(message.i, tile);
    if (before?.state !== tile.state) this.#paintState(message.i, tile.state);
  }

  #paintState(index, state) {
    const { columns } = this.layout;
    const context = this.stateLayer.getContext("2d");
    const [x, y] = [index % columns, Math.floor(index / columns)];
    const [r, g, b] = rgb(STATE[state]);
    const strength = FILLED.has(state) ? 0.45 : state === "missing" || state === "skipped" ? 0.6 : this.imaged.has(index) ? 0 : 0.25;
    context.clearRect(x, y, 1, 1);
    context.fillStyle = `rgb(${r} ${g} ${b} / ${strength})`;
    context.fillRect(x, y, 1, 1);
  }

  #takeBlock([kind, ...described], changed) {
    const bytes = described[described.length - 1];
    if (kind === "tile") this.#takeSmall(described[0], described[1], bytes);
    else if (kind === "field") this.#takeField(...described);
    else { this.arrays[kind] = bytes; changed.add("map"); }
    changed.add("tiles");
  }

  #small(size) {
    if (!this.cell) {
      const { columns, rows } = this.layout;
      this.cell = size;
      this.overview.width = columns * size[0];
      this.overview.height = rows * size[1];
    }
    return this.overview.getContext("2d");
  }

  #takeSmall(index, size, grey) {
    const context = this.#small(size);
    const image = new ImageData(size[0], size[1]);
    for (let at = 0; at < grey.length; at++) image.data.set([grey[at], grey[at], grey[at], 255], 4 * at);
    const { columns } = this.layout;
    context.putImageData(image, (index % columns) * size[0], Math.floor(index / columns) * size[1]);
    this.imaged.add(index);
    const tile = this.tiles.get(index);
    if (tile) this.#paintState(index, tile.state);
  }

  #takeField(name, box, of, size, labels) {
    const canvas = paint(this.fields.get(name)?.canvas ?? document.createElement("canvas"), size, (at) => phaseColour(labels[at]));
    const index = tileIndex(name.split("m")[0], this.layout.columns);
    // In shares of the field of view.
    const place = [box[0] / of[0], box[1] / of[1], box[2] / of[0], box[3] / of[1]];
    this.fields.set(name, { canvas, index, place });
    const tile = this.tiles.get(index);
    if (tile) (tile.fields ??= new Map()).set(name, this.fields.get(name));
  }

  name(index) { return tileName(index, this.layout.columns); }

  stateOf(index) { return this.tiles.get(index)?.state ?? "waiting"; }

  // -- geometry: millimetres along the two sides of the panorama, from its first corner ---------------------------

  tileBox(index) {
    const { columns, first, step, fov } = this.layout;
    const [column, row] = [index % columns, Math.floor(index / columns)];
    return [first[0] + column * step[0] - fov[0] / 2, first[1] + row * step[1] - fov[1] / 2, fov[0], fov[1]];
  }

  tileAt(x, y) {
    const { columns, rows, first, step, fov } = this.layout;
    const at = [x, y].map((value, axis) => {
      const count = axis ? rows : columns;
      const nearest = step[axis] ? Math.round((value - first[axis]) / step[axis]) : 0;
      const index = Math.min(count - 1, Math.max(0, nearest));
      return Math.abs(value - first[axis] - index * step[axis]) <= fov[axis] / 2 ? index : null;
    });
    return at.includes(null) ? null : at[1] * columns + at[0];
  }

  // Analysis pixels of a tile at a place.
  pixel(index, x, y) {
    const [left, top, width, height] = this.tileBox(index);
    const [columns, rows] = this.layout.size;
    return [Math.floor(((x - left) / width) * columns), Math.floor(((y - top) / height) * rows)];
  }

  stage(x, y) {
    const { corners: [o, right, below], area } = this.layout;
    const [a, b] = [x / area[0], y / area[1]];
    return [0, 1].map((axis) => o[axis] + a * (right[axis] - o[axis]) + b * (below[axis] - o[axis]));
  }
}
