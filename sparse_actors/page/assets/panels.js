// The header and the figures beside the map.

import { STATE, STATE_WORDS } from "./colours.js";
import { clock, duration, element, figure, pairs, percent, span } from "./words.js";

const byId = (id) => document.getElementById(id);
const CAUSES = {
  detection: ["waiting for detection", "#56b4e9"], storage: ["waiting for the disk", "#cc79a7"],
  budget: ["memory full", "#d55e00"], handling: ["orders and transfers", "#999999"], "choosing points": ["choosing points", "#e69f00"],
};
const OVER = new Set(["completed", "stopped", "failed", "broken off", "none"]);
const ENDED = new Set(["completed", "stopped", "failed"]);
const WORDS = { none: "no run" };
const set = (id, text) => { if (byId(id).textContent !== text) byId(id).textContent = text; };

export function showHeader(run, layout, hasContact) {
  const last = run?.state ?? "connecting";
  const state = hasContact || ENDED.has(last) ? last : "no contact";
  set("name", layout.name || "sparse-actors");
  set("state", WORDS[state] ?? state);
  byId("state").dataset.state = state;
  const figures = run?.figures;
  const title = figures?.share && !OVER.has(state) ? `${percent(figures.share)} ` : "";
  document.title = `${title}${layout.name ? `${layout.name}, ` : ""}${WORDS[state] ?? state}`;
  set("why", why(state, run, layout));
  const isOver = OVER.has(state);
  const share = state === "completed" ? 1 : figures?.share;
  set("share", percent(share));
  byId("bar").style.width = `${100 * (share ?? 0)}%`;
  set("counts", counts(figures));
  set("left", isOver ? "–" : duration(figures?.eta_s));
  const hasRange = !isOver && figures?.eta_low_s !== null && figures?.eta_low_s !== undefined;
  set("range", hasRange ? span(figures.eta_low_s, figures.eta_high_s) : "");
  set("elapsed", duration(elapsed(figures)));
  set("begun", run?.begun ? `since ${clock(run.begun).slice(0, 5)}` : "");
  const saved = figures?.saved_share ?? figures?.maps?.saved_share;
  set("saved", percent(saved));
  set("savedOf", saved === null || saved === undefined ? "" : `${duration(figures.saved_share === null ? figures.maps.saved_s : figures.saved_s)} less`);
  const mayOrder = hasContact && run?.mayOrder && !isOver;
  byId("pause").disabled = !mayOrder || state === "starting" || state === "stopping";
  byId("stop").disabled = !mayOrder;
  set("pause", state === "paused" ? "Resume" : "Pause");
  set("stop", state === "stopping" ? "Stop now" : "Stop");
  for (const id of ["pause", "stop"]) byId(id).title = run && !run.mayOrder ? "This page may only look" : { pause: "P", stop: "After the scan in flight" }[id];
}

function why(state, run, layout) {
  if (state === "no contact") return "trying again; the run itself goes on";
  if (run?.problem) return run.problem;
  if (state === "broken off") return "the process of the run has ended; it can be resumed";
  return run?.reason || layout.sample || "";
}

function elapsed(figures) {
  if (!figures) return null;
  const idle = Object.values(figures.idle_s).reduce((sum, one) => sum + one, 0);
  return figures.scan_s + figures.stage_s + idle + (figures.maps?.spectra_s ?? 0);
}

function counts(figures) {
  if (!figures) return "";
  const parts = [];
  if (figures.tiles_total) parts.push(`tiles ${figures.tiles_done}/${figures.tiles_total}`);
  if (figures.regions_planned) parts.push(`regions ${figures.regions_done}/${figures.regions_planned}`);
  const maps = figures.maps;
  if (maps?.fields_total) parts.push(`maps ${maps.fields_done}/${maps.fields_total}`);
  if (maps?.points_done) parts.push(`points ${maps.points_done}${maps.points_most ? `/${maps.points_most}` : ""}`);
  if (figures.scans_missed) parts.push(`${figures.scans_missed} missing`);
  return parts.join(" · ");
}

export function showPanels(run, layout) {
  showIdle(run);
  byId("detection").hidden = layout.hasSurvey === false;
  const names = Object.entries(run.workers);
  const figures = run.figures;
  pairs(byId("detecting"), [
    ["waiting for a worker", String(run.backlog), run.backlog > 2 * Math.max(1, names.length) ? "warn" : ""],
    ["points of interest found", String(run.found)],
    ["workers", names.length ? names.map(([name, host]) => (host ? `${name} (${host})` : name)).join(", ") : "none", names.length ? "" : "warn"],
    ...(figures?.detections_failed ? [["detections failed", String(figures.detections_failed), "warn"]] : []),
  ]);
  const { fast, analysis, spectrum, limit } = layout.dose ?? {};
  byId("dose").hidden = fast === null && limit === null;
  if (layout.dose) {
    const unit = (value) => (value === null ? "not known" : `${figure(value)} e/nm²`);
    const both = fast === null ? null : fast + analysis;
    pairs(byId("doses"), [
      ...(layout.hasSurvey ? [["fast scan", unit(fast)], ["where rescanned", unit(both), limit !== null && both > limit ? "warn" : ""]] : []),
      ...(layout.hasMaps ? [["spectrum, at its point", unit(spectrum), limit !== null && spectrum > limit ? "warn" : ""]] : []),
      ["limit of a pixel", limit === null ? "none set" : unit(limit)],
      ...(figures?.left_out_pixels ? [["left out to keep it", `${figure(figures.left_out_pixels / 1e6)} Mpx`, "warn"]] : []),
      ...(figures?.maps?.points_left_out ? [["points left out", String(figures.maps.points_left_out), "warn"]] : []),
    ]);
  }
}

function showIdle(run) {
  const figures = run.figures;
  const [, inFlight] = run.waitsFor.match(/^the end of (.*)/) ?? [];
  const waits = run.waitsFor ? inFlight ?? `waits for ${run.waitsFor}` : "";
  set("doing", { running: waits, starting: waits, paused: "paused" }[run.state] ?? "");
  byId("doing").title = waits;
  if (!figures) { byId("causes").replaceChildren(); return; }
  const total = elapsed(figures) || 1;
  const rows = [
    ["scanning", figures.scan_s, STATE.done],
    ["taking spectra", figures.maps?.spectra_s ?? 0, STATE.mapping],
    ["moving the stage", figures.stage_s, STATE.rescanning],
    ...Object.entries(figures.idle_s).map(([cause, seconds]) => {
      const [words, colour] = CAUSES[cause] ?? [cause, STATE.scanning];
      return [words, seconds, colour];
    }),
  ].filter(([, seconds]) => seconds > 0.0005 * total);
  byId("idle").replaceChildren(...rows.map(([words, seconds, colour]) => {
    const part = element("div", { title: words });
    part.style.background = colour;
    part.style.width = `${(100 * seconds) / total}%`;
    return part;
  }));
  pairs(byId("causes"), [
    ["idle", percent(figures.idle_share), figures.idle_share > 0.2 ? "warn" : ""],
    ...rows.map(([words, seconds, colour]) => [words, `${duration(seconds)} · ${percent(seconds / total)}`, "", colour]),
  ]);
}

export function showEvents(events) {
  const list = byId("events");
  list.classList.toggle("calm", !byId("all").checked);
  const shown = new Set([...list.children].map((item) => Number(item.dataset.number)));
  for (const [number, time, level, text] of events) {
    if (shown.has(number)) continue;
    const item = element("li", { class: level, "data-number": number }, element("time", {}, clock(time)), element("span", {}, text));
    list.prepend(item);
  }
  while (list.children.length > 300) list.lastChild.remove();
}

// How many tiles are in each state that occurs.
export function showLegend(model) {
  const { columns, rows, states } = model.layout;
  const counts = Object.fromEntries(states.map((state) => [state, 0]));
  for (const tile of model.tiles.values()) counts[tile.state] += 1;
  counts.waiting += columns * rows - model.tiles.size;
  byId("legend").replaceChildren(...states.filter((state) => counts[state]).map((state) => {
    const dot = element("i");
    dot.style.background = STATE[state];
    return element("li", {}, dot, `${STATE_WORDS[state]} ${counts[state]}`);
  }));
}
