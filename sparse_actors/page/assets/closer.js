// One tile, looked at closely: its fast image and its rescans side by side, and what it took.

import { REGION } from "./colours.js";
import { clock, duration, element, pairs } from "./words.js";

const dialog = document.getElementById("closer");

export async function lookCloser(name, layout) {
  const answer = await fetch(`tile/${name}.json`).catch(() => null);
  if (!answer?.ok) return;
  const tile = await answer.json();
  const times = element("ul", { class: "pairs" });
  pairs(times, [
    ["state", tile.skipped ? `skipped: ${tile.skipped}` : tile.state],
    ["reached at", tile.reached ? clock(tile.reached) : "not yet"],
    ["fast scans", duration(tile.fastTime)],
    ["detection, by workers", duration(tile.detectionTime)],
    ["rescans", `${duration(tile.rescanTime)}, ${tile.regions.filter((one) => one.status === "rescanned").length} of ${tile.regions.length} regions`],
    ["first scan to last", duration(tile.elapsed)],
    ["points of interest", String(tile.found)],
    ...tile.undetected.map((part) => ["could not be detected", part, "warn"]),
  ]);
  const image = element("canvas", { "aria-label": "Fast image with its regions" });
  const pair = element("div", { class: "pair" });
  const words = element("p", { class: "small" });
  const strip = element("div", { class: "strip" });
  const rescanned = tile.regions.filter((one) => one.status === "rescanned");
  const choose = (region) => {
    for (const button of strip.children) button.setAttribute("aria-pressed", String(button.dataset.region === region.id));
    const [left, top, width, height] = region.box;
    const shape = `${width} / ${height}`;
    const pictures = [["fast", `region/${region.id}.png?fast=1`], ["rescan", `region/${region.id}.png`]].map(([caption, source]) => {
      const shown = element("img", { src: source, alt: `${caption} of region ${region.id}` });
      shown.style.setProperty("--shape", shape);
      return element("figure", {}, shown, element("figcaption", {}, caption));
    });
    pair.replaceChildren(...pictures);
    const um = (px) => ((1e3 * px * layout.fov[0]) / layout.size[0]).toPrecision(3);
    words.textContent = `${region.id}: ${width} × ${height} px, ${um(width)} × ${um(height)} µm at ${left}, ${top}; ${duration(region.time)}${region.origin === "detector" ? "" : `; ${region.origin}`}`;
    drawTile(image, name, layout, tile.regions, region);
  };
  strip.replaceChildren(...rescanned.slice(0, 200).map((region) => {
    const button = element("button", { "data-region": region.id, title: region.id, onclick: () => choose(region) });
    button.append(element("img", { src: `region/${region.id}.png`, alt: region.id, loading: "lazy" }));
    return button;
  }));
  const close = element("button", { class: "plain close", onclick: () => dialog.close() }, "Close");
  const left = element("div", {}, image, element("p", { class: "small" }, "fast scan; the frames are regions"), times);
  const nothing = element("p", { class: "small" }, "No region is rescanned so far.");
  const right = element("div", {}, ...(rescanned.length ? [pair, words, strip] : [nothing]));
  dialog.replaceChildren(close, element("h2", {}, `Tile ${name}`), element("div", { class: "sides" }, left, right));
  if (!dialog.open) dialog.showModal();
  if (rescanned.length) choose(rescanned[0]);
  else drawTile(image, name, layout, tile.regions, null);
}

async function drawTile(canvas, name, layout, regions, chosen) {
  const answer = await fetch(`tile/${name}.jpg?width=1536&rescans=0`);
  if (!answer.ok) return;
  const bitmap = await createImageBitmap(await answer.blob());
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const scale = canvas.width / layout.size[0];
  for (const region of regions) {
    const isChosen = region.id === chosen?.id;
    context.strokeStyle = isChosen ? "#ffffff" : REGION[{ rescanned: "done", missing: "missed" }[region.status] ?? "planned"];
    context.lineWidth = isChosen ? 7 : 3;
    context.strokeRect(...region.box.map((number) => number * scale));
  }
}
