// Puts the page together.

import { follow } from "./changes.js";
import { lookCloser } from "./closer.js";
import { STATE_WORDS } from "./colours.js";
import { handle } from "./hands.js";
import { PanoramaMap } from "./map.js";
import { Model } from "./model.js";
import { order, say } from "./orders.js";
import { showEvents, showHeader, showLegend, showPanels } from "./panels.js";
import { showMap } from "./phases.js";
import { element } from "./words.js";

const byId = (id) => document.getElementById(id);
const model = new Model();
const map = new PanoramaMap(byId("canvas"), model);
let hasContact = false;

// -- what comes ----------------------------------------------------------------------------------

follow((message, drawn) => {
  hasContact = true;
  const changed = model.take(message);
  if (changed.has("layout")) begin();
  if (changed.has("run")) {
    showPanels(model.run, model.layout);
    if (model.layout.name) showLegend(model);
  }
  if (changed.has("events")) showEvents(model.events);
  if (changed.has("map") && model.map) showMap(model.map, model.arrays);
  showHeader(model.run, model.layout, hasContact);
  map.redraw(false, () => {
    drawn();
    dispatchEvent(new CustomEvent("drawn", { detail: message.tiles?.map((tile) => tile.i) ?? [] }));
  });
}, () => {
  hasContact = false;
  showHeader(model.run, model.layout, hasContact);
});

function begin() {
  const { layout } = model;
  document.body.classList.toggle("empty", !layout.name);
  byId("events").replaceChildren();
  byId("maps").hidden = true;
  byId("audit").hidden = !layout.hasAudit;
  closeCard();
  if (!layout.name) return;
  showLayers();
  map.reset();
}

// -- layers, light and keys ----------------------------------------------------------------------

const LAYERS = { images: "Images", states: "States", regions: "Regions", points: "Points", maps: "Phases" };

function showLayers() {
  const names = Object.keys(LAYERS).filter((name) => (name === "maps" ? model.layout.hasMaps : name === "states" || model.layout.hasSurvey));
  byId("layers").replaceChildren(...names.map((name) => element("button", {
    class: "plain", "aria-pressed": String(map.layers[name]),
    onclick: (event) => {
      map.layers[name] = !map.layers[name];
      event.target.setAttribute("aria-pressed", String(map.layers[name]));
      map.redraw();
    },
  }, LAYERS[name])));
}

function dress(theme) {
  document.documentElement.dataset.theme = theme;
  if (model.map) showMap(model.map, model.arrays);
  map.redraw();
}

const wantsDark = matchMedia("(prefers-color-scheme: dark)");
const nowDark = () => document.documentElement.dataset.theme === "dark";
dress(localStorage.getItem("sparse-actors theme") ?? (wantsDark.matches ? "dark" : "light"));
function turnLight() {
  const theme = nowDark() ? "light" : "dark";
  localStorage.setItem("sparse-actors theme", theme);
  dress(theme);
}

const KEYS = [
  ["P", "pause, or go on"], ["+ −", "closer, farther"], ["0", "everything"], ["← ↑ → ↓", "move the map"],
  ["Enter", "choose the tile in the middle"], ["L", "look closer at the chosen tile"], ["D", "light or dark"], ["Esc", "close"], ["?", "this list"],
];

function showKeys() {
  byId("help").replaceChildren(
    element("button", { class: "plain close", onclick: () => byId("help").close() }, "Close"),
    element("h2", {}, "Keys"),
    element("ul", {}, ...KEYS.map(([key, what]) => element("li", {}, element("kbd", {}, key), what))),
  );
  byId("help").showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const does = {
    p: () => byId("pause").click(), "+": () => map.zoom(1.4), "=": () => map.zoom(1.4), "-": () => map.zoom(1 / 1.4),
    0: () => map.fit(), d: turnLight, "?": showKeys, l: () => map.selected !== null && lookCloser(model.name(map.selected), model.layout),
    Escape: closeCard,
  }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (does) does();
});

byId("theme").addEventListener("click", turnLight);
byId("keys").addEventListener("click", showKeys);
byId("zoomIn").addEventListener("click", () => map.zoom(1.4));
byId("zoomOut").addEventListener("click", () => map.zoom(1 / 1.4));
byId("fit").addEventListener("click", () => map.fit());
byId("all").addEventListener("change", () => byId("events").classList.toggle("calm", !byId("all").checked));

// -- orders --------------------------------------------------------------------------------------

byId("pause").addEventListener("click", () => {
  if (model.run?.state === "paused") order("continue");
  else order("pause", { reason: "by hand, on the page" });
});

byId("stop").addEventListener("click", () => {
  const isNow = model.run?.state === "stopping";
  const question = isNow ? "End the run now, without waiting for the scan in flight?" : "End the run after the scan in flight? It can be resumed later.";
  if (confirm(question)) order("stop", { now: isNow });
});

byId("estimate").addEventListener("click", async (event) => {
  event.target.disabled = true;
  byId("recall").textContent = "Looking at all recorded regions and windows …";
  try {
    const answer = await fetch("audit", { method: "POST" });
    const { said, refused } = await answer.json();
    byId("recall").textContent = refused ?? `${said.join(". ")}.`;
  } catch {
    byId("recall").textContent = "Nobody answers.";
  } finally {
    event.target.disabled = false;
  }
});

handle(map, choose, hover);

function hover(x, y) {
  const cursor = byId("cursor");
  if (x === null || !model.layout.name) { cursor.textContent = ""; return; }
  const place = map.place(x, y);
  const tile = model.tileAt(...place);
  const [stageX, stageY] = model.stage(...place);
  const words = [`x ${stageX.toFixed(4)}  y ${stageY.toFixed(4)} mm`];
  if (tile !== null) words.push(`${model.name(tile)}  ${model.pixel(tile, ...place).join(", ")} px`, STATE_WORDS[model.stateOf(tile)]);
  cursor.textContent = words.join("   ");
}

function closeCard() {
  byId("card").hidden = true;
  map.selected = map.proposal = null;
  map.redraw();
}

// The region around a point that would be rescanned, within the tile.
function regionAt(tile, place) {
  const { region, size } = model.layout;
  const at = model.pixel(tile, ...place);
  const start = [0, 1].map((axis) => Math.max(0, Math.min(size[axis] - region[axis], Math.round(at[axis] - region[axis] / 2))));
  return [...start, Math.min(region[0], size[0]), Math.min(region[1], size[1])];
}

function choose(x, y) {
  if (!model.layout.name) return;
  const place = map.place(x, y);
  const index = model.tileAt(...place);
  if (index === null) { closeCard(); return; }
  const name = model.name(index);
  const tile = model.tiles.get(index);
  const box = regionAt(index, place);
  map.selected = index;
  map.proposal = model.layout.hasSurvey ? box : null;
  map.redraw();
  const done = tile ? [...tile.c].filter((one) => one === "d").length : 0;
  const words = [STATE_WORDS[model.stateOf(index)]];
  if (tile?.regions.length) words.push(`${done} of ${tile.regions.length / 5} regions rescanned`);
  const buttons = [element("button", { class: "plain", id: "look", disabled: !tile, onclick: () => lookCloser(name, model.layout) }, "Look closer")];
  if (model.run?.mayOrder && ["running", "paused"].includes(model.run.state)) {
    if (model.layout.hasSurvey) buttons.push(element("button", {
      id: "propose", title: `${box[2]} × ${box[3]} px around the click`,
      onclick: async () => { if (await order("propose", { tile: name, boxes: [box], source: "live page" })) closeCard(); },
    }, "Rescan here"));
    if (!["done", "skipped"].includes(model.stateOf(index))) buttons.push(element("button", {
      id: "skip", class: "danger",
      onclick: async () => { if (confirm(`Leave out what is left of tile ${name}?`) && await order("skip", { tile: name, reason: "by hand, on the page" })) closeCard(); },
    }, "Skip tile"));
  }
  const card = byId("card");
  card.replaceChildren(
    element("button", { class: "plain close", "aria-label": "Close", onclick: closeCard }, "✕"),
    element("h2", {}, `Tile ${name}`), element("p", {}, words.join(", ")), element("div", { class: "buttons" }, ...buttons),
  );
  card.hidden = false;
  const parent = byId("map");
  card.style.left = `${Math.max(12, Math.min(x + 16, parent.clientWidth - 316))}px`;
  card.style.top = `${Math.max(12, Math.min(y + 16, parent.clientHeight - card.offsetHeight - 12))}px`;
}

addEventListener("unhandledrejection", (event) => say(`The page failed: ${event.reason?.message ?? event.reason}`));
