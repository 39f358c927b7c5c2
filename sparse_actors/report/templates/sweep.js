
// Configurations of a sweep: hover, choose, copy.
const data = JSON.parse(document.getElementById("data").textContent);
const charts = document.getElementById("charts");
const hint = document.getElementById("hint");
const chosen = document.getElementById("chosen");
const missed = document.getElementById("missed");
const against = document.getElementById("against");
const part = document.getElementById("part");
const byRecall = data.points.map((_, n) => n).sort((a, b) => data.points[a].recall[0] - data.points[b].recall[0]);
const NEAR_PX = 14;
let pointed = -1;
let picked = -1;

const element = (name, text = "", className = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
};
const percent = (share) => share === null ? "-" : (100 * share).toFixed(1) + " %";
const figure = ([value, low, high]) => `${percent(value)} (${percent(low)} to ${percent(high)})`;
const shownKey = () => `${against.value}-${part.value}`;
const view = () => charts.querySelector(`[data-key="${shownKey()}"]`);

function drawing() {
  const shown = view();
  const [left, top, width, height] = JSON.parse(shown.dataset.area);
  const [x0, x1] = JSON.parse(shown.dataset.x);
  const [y0, y1] = JSON.parse(shown.dataset.y);
  const axis = data.axes.indexOf(against.value);
  const across = (x) => left + width * (x - x0) / (x1 - x0);
  const up = (y) => top + height * (y1 - y) / (y1 - y0);
  const at = (n) => [across(data.points[n].recall[0]), up(data.points[n].figures[axis][0])];
  const isThere = (n) => data.points[n].recall[0] >= x0 && data.points[n].figures[axis][0] >= y0 && data.points[n].figures[axis][0] <= y1;
  return { svg: shown.querySelector("svg"), across, up, at, axis, isThere };
}

function ring(number, className) {
  const { svg, across, up, at, axis, isThere } = drawing();
  charts.querySelectorAll("." + className).forEach((old) => old.remove());
  if (number < 0 || !isThere(number)) return;
  const point = data.points[number];
  const [x, y] = at(number);
  const [, left, right] = point.recall;
  const [, low, high] = point.figures[axis];
  const group = document.createElementNS("http://www.w3.org/2000/svg", "g");
  group.setAttribute("class", className);
  const circle = document.createElementNS(group.namespaceURI, "circle");
  circle.setAttribute("cx", x);
  circle.setAttribute("cy", y);
  circle.setAttribute("r", 7);
  const cross = document.createElementNS(group.namespaceURI, "path");
  cross.setAttribute("d", `M${across(left)} ${y}H${across(right)}M${x} ${up(low)}V${up(high)}`);
  group.append(circle, cross);
  svg.append(group);
}

function pointAt(number) {
  pointed = number;
  ring(number, "pointed");
  hint.hidden = number < 0;
  if (number < 0) return;
  const point = data.points[number];
  hint.replaceChildren(
    ...point.keys.map(([key, value]) => element("div", `${key}: ${value}`)),
    element("div", `recall ${figure(point.recall)}`, "strong"),
    element("div", `efficiency ${figure(point.figures[0])}`),
    element("div", `time ${percent(point.figures[1][0])}, with overheads ${percent(point.figures[2][0])}`),
  );
  const { svg, at } = drawing();
  const [x, y] = at(number);
  const box = svg.getBoundingClientRect();
  const outer = charts.getBoundingClientRect();
  const scale = box.width / svg.viewBox.baseVal.width;
  const left = box.left - outer.left + x * scale;
  hint.style.left = Math.min(left + 16, outer.width - hint.offsetWidth - 4) + "px";
  hint.style.top = box.top - outer.top + y * scale + 16 + "px";
}

function nearest(event) {
  const { svg, at, isThere } = drawing();
  const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  let best = -1;
  let least = NEAR_PX;
  data.points.forEach((_, n) => {
    const [x, y] = at(n);
    const distance = Math.hypot(x - place.x, y - place.y);
    if (distance < least && isThere(n)) [best, least] = [n, distance];
  });
  return best;
}

function rows(pairs) {
  const table = element("table");
  for (const [key, value] of pairs) {
    const row = table.insertRow();
    const head = element("th", key);
    head.scope = "row";
    row.append(head, element("td", value));
  }
  return table;
}

function missedSites(point) {
  if (!point.is_known) return [element("p", "Which sites it misses was not kept by the version that judged it; sweep into a new folder.")];
  if (!point.missed_count) return [element("p", "It misses none of the sites.")];
  const count = point.missed.length < point.missed_count ? `, the ${point.missed.length} largest that there are pictures of` : "";
  const list = element("ul", "", "gallery missed");
  for (const number of point.missed) {
    const site = data.sites[number];
    const images = element("div");
    for (const [name, address] of [["fast scan", site.fast], ["analysis scan", site.analysis]]) {
      const image = element("img");
      image.alt = name;
      image.src = address;
      images.append(image);
    }
    const item = element("li");
    item.append(images, element("span", `${site.area_px} px, tile ${site.tile}`, "small"));
    list.append(item);
  }
  return [element("p", `It misses ${point.missed_count} of ${point.of} sites${count}. Left the fast scan, right the analysis scan; sizes in analysis pixels.`), list];
}

async function copy(text, button, source) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Where a page may not write to the clipboard by itself, as from some files: as if selected by hand.
    getSelection().selectAllChildren(source);
    if (!document.execCommand("copy")) {
      button.textContent = "select the text and copy it";
      return;
    }
  }
  button.textContent = "copied";
}

function choose(number) {
  picked = number;
  ring(number, "picked");
  const point = data.points[number];
  const toml = element("pre", point.toml);
  const button = element("button", "copy for the configuration");
  button.type = "button";
  button.addEventListener("click", () => copy(point.toml, button, toml));
  const sizes = data.sizes
    .map((name, n) => [`recall of ${name} px`, `${percent(point.by_size[n])} of ${point.sites_by_size[n]}`])
    .filter((_, n) => point.sites_by_size[n]);
  chosen.replaceChildren(
    element("h3", point.keys.map(([key, value]) => `${key} ${value}`).join(", ")),
    rows([
      ["recall", figure(point.recall)], ["efficiency", figure(point.figures[0])], ["time", figure(point.figures[1])],
      ["with overheads", figure(point.figures[2])], ["seen whole", percent(point.whole)],
      ["detections in a tile", point.detections.toFixed(1)], ...sizes,
    ]),
    button, toml,
  );
  missed.replaceChildren(...missedSites(point));
}

charts.addEventListener("pointermove", (event) => pointAt(nearest(event)));
charts.addEventListener("pointerleave", () => pointAt(-1));
charts.addEventListener("click", (event) => {
  const number = nearest(event);
  if (number >= 0) choose(number);
});
charts.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) {
    const { isThere } = drawing();
    const there = byRecall.filter(isThere);
    const place = there.indexOf(pointed < 0 ? picked : pointed);
    pointAt(there[Math.min(Math.max(0, place + step), there.length - 1)]);
  } else if (event.key === "Enter" && pointed >= 0) choose(pointed);
  else return;
  event.preventDefault();
});
for (const control of [against, part]) {
  control.addEventListener("change", () => {
    for (const one of charts.querySelectorAll(".view")) one.classList.toggle("hidden", one.dataset.key !== shownKey());
    ring(picked, "picked");
  });
}
for (const button of document.querySelectorAll("[data-point]")) {
  button.addEventListener("click", () => {
    choose(Number(button.dataset.point));
    chosen.scrollIntoView({ behavior: "smooth", block: "nearest" });
  });
}

