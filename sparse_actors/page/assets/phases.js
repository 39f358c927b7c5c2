// The phase map of a field, where it is measured, where more would be gained, and the last spectrum.

import { heat, paint, phase, phaseColour, rgb } from "./colours.js";
import { element, figure, percent } from "./words.js";

const byId = (id) => document.getElementById(id);
let spectraShown = "";

export function showMap(map, arrays) {
  byId("maps").hidden = !map?.field;
  if (!map?.field || !arrays.phases) return;
  const dark = document.documentElement.dataset.theme === "dark";
  const nothing = dark ? [32, 36, 41, 255] : [226, 230, 234, 255];
  paint(byId("phaseMap"), map.size, (at) => (map.points || map.end ? phaseColour(arrays.phases[at]) : nothing));
  paint(byId("measuredMap"), map.size, (at) => (arrays.measured[at] ? phaseColour(arrays.measured[at] - 1) : nothing));
  paint(byId("erdMap"), map.size, (at) => (map.hasErd ? heat(arrays.erd[at]) : nothing));
  byId("mapOf").textContent = `${map.field}${map.end ? `, ${map.isComplete ? "finished" : "cut short"}` : ""}`;
  byId("phaseCaption").textContent = `phases, from ${percent(map.points / map.grid)} of ${map.grid} points`;
  byId("measuredCaption").textContent = `${map.points} measured`;
  byId("erdCaption").textContent = map.hasErd ? `expected gain` : "expected gain: not shown";
  byId("erdCaption").title = `Expected reduction in distortion (ERD), up to ${figure(map.erdLargest)} px; black: none`;
  byId("phaseNames").replaceChildren(...Object.entries(map.shares).map(([label, share]) => {
    const dot = element("i");
    dot.style.background = phase(Number(label));
    return element("li", {}, dot, `${map.names[label] ?? `phase ${label}`} ${percent(share)}`);
  }));
  const version = `${map.field} ${map.spectra}`;
  if (version !== spectraShown) { spectraShown = version; showSpectrum(map); }
}

let isFetching = false;

async function showSpectrum(map) {
  if (isFetching) return;
  isFetching = true;
  try {
    const answer = await fetch("spectrum.json");
    if (answer.ok) draw(await answer.json(), map);
  } catch {
    // The next batch asks again.
  } finally {
    setTimeout(() => { isFetching = false; }, 500);
  }
}

function draw({ counts, firstKev, stepKev, label, confidence }, map) {
  const name = label === 0 ? "fits no phase" : map.names[label] ?? `phase ${label}`;
  byId("spectrumOf").textContent = `${name}, confidence ${percent(confidence)}`;
  const canvas = byId("spectrum");
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  const base = height - 20;
  const first = Math.max(0, Math.floor((0.1 - firstKev) / stepKev));
  const highest = Math.max(1, ...counts.slice(first));
  const last = Math.min(counts.length - 1, counts.findLastIndex((count) => count > 0.01 * highest) + Math.round(0.5 / stepKev));
  // Channels too narrow to be seen are counted together.
  const wide = Math.max(1, Math.ceil((2 * (last - first)) / width));
  const sums = [];
  for (let channel = first; channel <= last; channel += wide) sums.push(counts.slice(channel, channel + wide).reduce((sum, one) => sum + one, 0));
  const largest = Math.max(1, ...sums);
  const x = (channel) => ((channel - first) / Math.max(1, last - first)) * (width - 2) + 1;
  const y = (count) => base - Math.sqrt(count / largest) * (base - 6);
  context.beginPath();
  context.moveTo(x(first), base);
  sums.forEach((sum, at) => context.lineTo(x(first + (at + 0.5) * wide), y(sum)));
  context.lineTo(x(last), base);
  const [r, g, b] = rgb(phase(label));
  context.fillStyle = `rgb(${r} ${g} ${b} / 45%)`;
  context.fill();
  context.strokeStyle = style.getPropertyValue("--ink");
  context.lineWidth = 0.8;
  context.stroke();
  context.fillStyle = style.getPropertyValue("--soft");
  context.font = "13px system-ui, sans-serif";
  const [low, high] = [firstKev + first * stepKev, firstKev + last * stepKev];
  const step = [0.5, 1, 2, 5, 10].find((one) => (high - low) / one <= 7) ?? 20;
  for (let kev = Math.ceil(low / step) * step; kev <= high; kev += step) {
    const at = x((kev - firstKev) / stepKev);
    context.fillRect(at, base, 1, 4);
    if (at > 8 && at < width - 46) context.fillText(figure(Number(kev.toFixed(2))), at - 4, height - 3);
  }
  context.fillText("keV", width - 28, height - 3);
}
