// The map of the panorama: what is seen of it is drawn, however many tiles there are.

import { POI, REGION, STATE } from "./colours.js";
import { Images } from "./images.js";
import { length, tileIndex } from "./words.js";

const IMAGES_FROM_PX = 64;
const FRAMES_FROM_PX = 24;
const REGIONS_FROM_PX = 50;
const POIS_FROM_PX = 110;
const NAMES_FROM_PX = 120;

export class PanoramaMap {
  constructor(canvas, model) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.model = model;
    this.images = new Images(() => this.redraw());
    this.layers = { images: true, states: true, regions: true, points: true, maps: true };
    this.selected = null;
    this.proposal = null;
    this.drawn = [];
    this.scale = 1;
    this.origin = [0, 0];
    this.isFitted = true;
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  // -- view ----------------------------------------------------------------------------------------

  #resize() {
    const ratio = devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = Math.max(1, Math.round(clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    this.ratio = ratio;
    if (this.isFitted) this.fit();
    this.redraw(true);
  }

  reset() {
    this.images.clear();
    this.selected = this.proposal = null;
    this.fit();
  }

  fit() {
    this.isFitted = true;
    const { area, fov } = this.model.layout;
    if (!area) return;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const size = [Math.max(area[0], fov[0]), Math.max(area[1], fov[1])];
    this.scale = Math.max(1e-6, Math.min((width - 40) / size[0], (height - 132) / size[1]));
    this.origin = [(width - area[0] * this.scale) / 2, 66 + (height - 132 - area[1] * this.scale) / 2];
    this.redraw();
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const { fov, size } = this.model.layout;
    if (!fov) return;
    const nearest = (8 * size[0]) / fov[0];
    const farthest = 20 / Math.max(...this.model.layout.area);
    const scale = Math.min(nearest, Math.max(farthest, this.scale * factor));
    this.origin = [x, y].map((at, axis) => at - ((at - this.origin[axis]) * scale) / this.scale);
    this.scale = scale;
    this.isFitted = false;
    this.redraw();
  }

  pan(dx, dy) {
    this.origin = [this.origin[0] + dx, this.origin[1] + dy];
    this.isFitted = false;
    this.redraw();
  }

  place(x, y) { return [(x - this.origin[0]) / this.scale, (y - this.origin[1]) / this.scale]; }

  // Draw soon; called back once it is done.
  redraw(isNow = false, drawn = null) {
    if (drawn) this.drawn.push(drawn);
    if (isNow || document.hidden) { this.#draw(); return; }
    this.frame ??= requestAnimationFrame(() => this.#draw());
  }

  // -- drawing -------------------------------------------------------------------------------------

  #draw() {
    if (this.frame) cancelAnimationFrame(this.frame);
    this.frame = null;
    const { context, model, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(this.ratio ?? 1, 0, 0, this.ratio ?? 1, 0, 0);
    if (model.layout.name) {
      this.images.begin();
      this.#drawOverview();
      this.#drawTiles();
      this.#drawBeam();
      this.#drawScaleBar();
      this.images.end();
    }
    for (const drawn of this.drawn.splice(0)) drawn();
  }

  #box([left, top, width, height]) {
    return [this.origin[0] + left * this.scale, this.origin[1] + top * this.scale, width * this.scale, height * this.scale];
  }

  #drawOverview() {
    const { context, model } = this;
    const { columns, rows, first, step, fov } = model.layout;
    const [dx, dy] = [step[0] || fov[0], step[1] || fov[1]];
    const whole = this.#box([first[0] - dx / 2, first[1] - dy / 2, columns * dx, rows * dy]);
    context.fillStyle = getComputedStyle(this.canvas).getPropertyValue("--line");
    context.fillRect(...this.#box([first[0] - fov[0] / 2, first[1] - fov[1] / 2, (columns - 1) * dx + fov[0], (rows - 1) * dy + fov[1]]));
    if (this.layers.images && model.cell) {
      context.drawImage(model.overview, ...whole);
    }
    if (this.layers.states) {
      context.imageSmoothingEnabled = false;
      context.drawImage(model.stateLayer, ...whole);
    }
    context.imageSmoothingEnabled = true;
  }

  *#visible() {
    const { columns, rows, first, step, fov } = this.model.layout;
    const corners = [this.place(0, 0), this.place(this.canvas.clientWidth, this.canvas.clientHeight)];
    const range = (axis, count) => {
      const index = (value) => (step[axis] ? (value - first[axis]) / step[axis] : 0);
      const reach = step[axis] ? fov[axis] / 2 / step[axis] : 0;
      return [Math.max(0, Math.ceil(index(corners[0][axis]) - reach)), Math.min(count - 1, Math.floor(index(corners[1][axis]) + reach))];
    };
    const [[left, right], [top, bottom]] = [range(0, columns), range(1, rows)];
    for (let row = top; row <= bottom; row++) for (let column = left; column <= right; column++) yield row * columns + column;
  }

  #drawTiles() {
    const width = this.model.layout.fov[0] * this.scale;
    if (width < FRAMES_FROM_PX) { this.#drawSelection(); return; }
    for (const index of this.#visible()) {
      const tile = this.model.tiles.get(index);
      const box = this.#box(this.model.tileBox(index));
      if (tile) this.#drawContent(tile, index, box, width);
      this.#drawFrame(tile, index, box, width);
    }
    this.#drawSelection();
  }

  #drawContent(tile, index, box, width) {
    const { context, layers } = this;
    if (layers.images && width >= IMAGES_FROM_PX) {
      const bitmap = this.images.get(tile, this.model.name(index), width * (this.ratio ?? 1));
      context.imageSmoothingEnabled = width < 3000;
      if (bitmap) context.drawImage(bitmap, ...box);
      context.imageSmoothingEnabled = true;
    }
    if (layers.maps) for (const { canvas, place } of tile.fields?.values() ?? []) {
      context.imageSmoothingEnabled = false;
      context.globalAlpha = 0.85;
      context.drawImage(canvas, box[0] + place[0] * box[2], box[1] + place[1] * box[3], place[2] * box[2], place[3] * box[3]);
      context.globalAlpha = 1;
      context.imageSmoothingEnabled = true;
    }
    const pixel = box[2] / this.model.layout.size[0];
    if (layers.regions && width >= REGIONS_FROM_PX) this.#drawRegions(tile, box, pixel);
    if (layers.points && width >= POIS_FROM_PX) this.#drawPoints(tile, box, pixel);
  }

  #drawRegions({ regions, c: status }, [left, top], pixel) {
    const paths = {};
    for (let at = 0; at < regions.length; at += 5) {
      const became = status[at / 5];
      const kind = became === "d" ? "done" : became === "m" ? "missed" : ["planned", "proposed", "audit"][regions[at + 4]];
      (paths[kind] ??= new Path2D()).rect(
        left + regions[at] * pixel, top + regions[at + 1] * pixel,
        Math.max(2, regions[at + 2] * pixel), Math.max(2, regions[at + 3] * pixel));
    }
    this.context.lineWidth = 1.5;
    for (const [kind, path] of Object.entries(paths)) {
      this.context.strokeStyle = REGION[kind];
      this.context.stroke(path);
    }
  }

  #drawPoints({ pois }, [left, top], pixel) {
    const radius = Math.min(4, Math.max(1.5, 6 * pixel));
    const path = new Path2D();
    for (let at = 0; at < pois.length; at += 2) {
      path.rect(left + pois[at] * pixel - radius, top + pois[at + 1] * pixel - radius, 2 * radius, 2 * radius);
    }
    this.context.fillStyle = POI;
    this.context.fill(path);
  }

  #drawFrame(tile, index, [x, y, width, height], size) {
    const { context } = this;
    const state = tile?.state ?? "waiting";
    context.lineWidth = state === "waiting" || state === "done" ? 1 : 2;
    context.strokeStyle = STATE[state];
    context.globalAlpha = state === "waiting" ? 0.35 : 0.9;
    context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
    context.globalAlpha = 1;
    if (size >= NAMES_FROM_PX) this.#text(this.model.name(index), x + 6, y + 19, 14);
  }

  #drawSelection() {
    const { context, model } = this;
    if (this.selected === null) return;
    const box = this.#box(model.tileBox(this.selected));
    context.strokeStyle = getComputedStyle(this.canvas).getPropertyValue("--accent");
    context.lineWidth = 3;
    context.strokeRect(...box);
    if (this.proposal) {
      const pixel = box[2] / model.layout.size[0];
      const [left, top, width, height] = this.proposal;
      context.setLineDash([6, 4]);
      context.strokeStyle = REGION.proposed;
      context.strokeRect(box[0] + left * pixel, box[1] + top * pixel, Math.max(4, width * pixel), Math.max(4, height * pixel));
      context.setLineDash([]);
    }
  }

  #drawBeam() {
    const beam = this.model.run?.beam;
    if (!beam) return;
    const { context, model } = this;
    const [name, left, top, width, height] = beam;
    const box = this.#box(model.tileBox(tileIndex(name, model.layout.columns)));
    const pixel = box[2] / model.layout.size[0];
    const spot = [box[0] + left * pixel, box[1] + top * pixel, width * pixel, height * pixel];
    context.strokeStyle = STATE.scanning;
    context.lineWidth = 2.5;
    context.strokeRect(...spot);
    if (spot[2] < 14) {
      context.beginPath();
      context.arc(spot[0] + spot[2] / 2, spot[1] + spot[3] / 2, 9, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  #drawScaleBar() {
    const { context } = this;
    const target = 160 / this.scale;
    const power = 10 ** Math.floor(Math.log10(target));
    const mm = [5, 2, 1].map((n) => n * power).find((n) => n <= target);
    const width = mm * this.scale;
    const y = this.canvas.clientHeight - 18;
    context.fillStyle = "rgb(0 0 0 / 65%)";
    context.fillRect(12, y - 30, Math.max(width, 60) + 20, 40);
    context.fillStyle = "#ffffff";
    context.fillRect(22, y - 2, width, 5);
    this.#text(length(mm), 22, y - 9, 16, "#ffffff", false);
  }

  #text(words, x, y, size, colour = "#ffffff", hasShade = true) {
    const { context } = this;
    context.font = `600 ${size}px system-ui, sans-serif`;
    if (hasShade) {
      context.lineWidth = 3;
      context.strokeStyle = "rgb(0 0 0 / 70%)";
      context.strokeText(words, x, y);
    }
    context.fillStyle = colour;
    context.fillText(words, x, y);
  }
}
