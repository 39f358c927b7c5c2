// Colours that stay apart for colour-blind eyes (after Okabe and Ito), the same in the light and in the dark.

export const STATE = {
  waiting: "#8b949e", scanning: "#e69f00", detecting: "#56b4e9", rescanning: "#0072b2", mapping: "#cc79a7",
  done: "#009e73", missing: "#d55e00", skipped: "#6e7681",
};
export const STATE_WORDS = {
  waiting: "waiting", scanning: "fast scan", detecting: "detecting", rescanning: "rescanning", mapping: "mapping",
  done: "done", missing: "something missing", skipped: "skipped",
};
export const REGION = { planned: "#ffb000", done: "#35c28b", missed: "#ff5d4d", proposed: "#d58cff", audit: "#9fb4c8" };
export const POI = "#ff4fa3";

const PHASES = [
  "#000000", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99", "#99ddff",
  "#bbcc33", "#ffaabb", "#77aadd", "#994455", "#997700", "#6699cc",
];

// Of a phase by its label; 0 fits none.
export function phase(label) {
  return label === 0 ? "#777777" : PHASES[1 + ((label - 1) % (PHASES.length - 1))];
}

export function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

export function paint(canvas, [width, height], colourOf) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let at = 0; at < width * height; at++) image.data.set(colourOf(at), 4 * at);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const PHASE_RGBA = Array.from({ length: 256 }, (_, label) => [...rgb(phase(label)), 255]);

export const phaseColour = (label) => PHASE_RGBA[label];

// Black, blue, orange, white with the value 0..255: brighter is more.
export function heat(value) {
  const t = value / 255;
  return [255 * Math.min(1, 1.9 * t), 255 * t ** 1.4, 255 * Math.min(1, 0.35 * Math.sin(Math.PI * t) + Math.max(0, 3 * t - 2)), 255];
}
