// Numbers and times as people read them.

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !isFinite(seconds)) return "–";
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds > 0 && seconds < 0.095) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  if (seconds < 599.5) return `${Math.floor(Math.round(seconds) / 60)} min ${String(Math.round(seconds) % 60).padStart(2, "0")} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

// Two durations in the unit of the longer one.
export function span(low, high) {
  if (high < 59.5) return `${Math.round(low)} to ${Math.round(high)} s`;
  const [unit, size] = high < 3570 ? ["min", 1] : ["h", 60];
  const [from, to] = [low, high].map((seconds) => {
    const whole = Math.max(0, Math.round(seconds / size));
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  });
  return from === to ? "" : `${from} to ${to} ${unit}`;
}

export function percent(share) {
  if (share === null || share === undefined || !isFinite(share)) return "–";
  return `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;
}

export function clock(unixSeconds) {
  return unixSeconds ? new Date(1000 * unixSeconds).toTimeString().slice(0, 8) : "";
}

export function figure(number) {
  if (number === null || number === undefined) return "–";
  const size = Math.abs(number);
  if (size >= 1e5 || (size > 0 && size < 0.01)) return number.toExponential(1);
  return size >= 100 || Number.isInteger(number) ? String(Math.round(number)) : String(Number(number.toPrecision(3)));
}

export function length(mm) {
  if (mm >= 1) return `${Number(mm.toPrecision(3))} mm`;
  if (mm >= 1e-3) return `${Number((1e3 * mm).toPrecision(3))} µm`;
  return `${Number((1e6 * mm).toPrecision(3))} nm`;
}

// A tile by its number in the rows of the panorama.
export function tileName(index, columns) {
  const digits = (number) => String(number).padStart(3, "0");
  return `r${digits(Math.floor(index / columns))}c${digits(index % columns)}`;
}

export function tileIndex(name, columns) {
  const [row, column] = name.slice(1).split("c").map(Number);
  return row * columns + column;
}

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Rows of a list of what and how much; a third entry marks a row, a fourth gives it a colour.
export function pairs(list, rows) {
  list.replaceChildren(...rows.map(([what, value, mark = "", colour = ""]) => {
    const name = element("span", {}, what);
    if (colour) {
      const dot = element("i");
      dot.style.background = colour;
      name.prepend(dot);
    }
    return element("li", { class: mark }, name, element("span", {}, value));
  }));
}
