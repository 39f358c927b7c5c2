
// The map: layers, zoom and movement, and where the pointer is on the stage.
const map = document.getElementById("panorama");
const geometry = JSON.parse(map.dataset.map);
const picture = map.querySelector("svg");
const output = map.querySelector("output");
const [wholeWidth, wholeHeight] = geometry.size;
const CLOSEST = 200;
let view = { x: 0, y: 0, width: wholeWidth, height: wholeHeight };

for (const box of document.querySelectorAll("[data-layer]")) {
  const layer = picture.querySelector("." + box.dataset.layer);
  const show = () => layer.classList.toggle("hidden", !box.checked);
  box.addEventListener("change", show);
  show();
}

function look(x, y, width) {
  width = Math.min(wholeWidth, Math.max(wholeWidth / CLOSEST, width));
  const height = width * wholeHeight / wholeWidth;
  view = {
    x: Math.min(Math.max(0, x), wholeWidth - width), y: Math.min(Math.max(0, y), wholeHeight - height), width, height,
  };
  picture.setAttribute("viewBox", [view.x, view.y, view.width, view.height].join(" "));
  drawBar();
}

function zoom(factor, x = view.x + view.width / 2, y = view.y + view.height / 2) {
  const width = Math.min(wholeWidth, Math.max(wholeWidth / CLOSEST, view.width / factor));
  look(x - (x - view.x) * width / view.width, y - (y - view.y) * width / view.width, width);
}

function pixelsOnScreen() {
  const box = picture.getBoundingClientRect();
  return Math.min(box.width / view.width, box.height / view.height);
}

function drawBar() {
  const bar = map.querySelector(".bar");
  const path = bar.querySelector("path");
  const length = bar.querySelector("svg").getBoundingClientRect().width;
  if (!length) return; // not on the screen
  const umAcross = length / pixelsOnScreen() * geometry.pixel_um;
  const most = umAcross * 0.2;
  const power = 10 ** Math.floor(Math.log10(most));
  const um = power * [5, 2, 1].find((n) => n * power <= most * 1.0001);
  path.setAttribute("d", "M0 3h" + (100 * um / umAcross));
  bar.querySelector("span").textContent = (um >= 1 ? um : um * 1000) + (um >= 1 ? " µm" : " nm");
}

function place(event) {
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
  return [at.x, at.y];
}

function tileAt(x, y) {
  const number = (starts, at, size) => starts.findIndex((start) => at >= start && at < start + size);
  const column = number(geometry.columns, x, geometry.tile[0]);
  const row = number(geometry.rows, y, geometry.tile[1]);
  if (row < 0 || column < 0) return "";
  const three = (n) => String(n).padStart(3, "0");
  return `, tile r${three(row)}c${three(column)}`;
}

picture.addEventListener("pointermove", (event) => {
  const [x, y] = place(event);
  const [x0, y0, rightX, rightY, downX, downY] = geometry.stage;
  const stageX = x0 + rightX * x + downX * y;
  const stageY = y0 + rightY * x + downY * y;
  output.textContent = `stage x ${stageX.toFixed(4)} mm, y ${stageY.toFixed(4)} mm${tileAt(x, y)}`;
  if (event.buttons & 1) {
    const scale = pixelsOnScreen();
    look(view.x - event.movementX / scale, view.y - event.movementY / scale, view.width);
  }
});
picture.addEventListener("pointerdown", (event) => picture.setPointerCapture(event.pointerId));
picture.addEventListener("pointerleave", () => { output.textContent = ""; });
picture.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && document.activeElement !== map) return; // the page scrolls until the map is clicked
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 400), ...place(event));
}, { passive: false });
map.addEventListener("keydown", (event) => {
  const step = view.width / 8;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (event.key === "+" || event.key === "=") zoom(1.5);
  else if (event.key === "-") zoom(1 / 1.5);
  else if (event.key === "0") look(0, 0, wholeWidth);
  else if (moves[event.key]) look(view.x + moves[event.key][0], view.y + moves[event.key][1], view.width);
  else return;
  event.preventDefault();
});
for (const button of document.querySelectorAll("[data-zoom]")) {
  button.addEventListener("click", () => {
    const factor = Number(button.dataset.zoom);
    if (factor) zoom(factor); else look(0, 0, wholeWidth);
  });
}
addEventListener("resize", drawBar);
drawBar();

