// Mouse, fingers and keys on the map.

const CLICK_PX = 5;
const STEP_PX = 80;

// Calls chosen(x, y) at a click and hovered(x, y) when the mouse moves, in pixels; hovered(null) when it leaves.
export function handle(map, chosen, hovered) {
  const { canvas } = map;
  const fingers = new Map();
  let moved = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, at(event));
    moved = fingers.size > 1 ? CLICK_PX : 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    const before = fingers.get(event.pointerId);
    hovered(x, y);
    if (!before) return;
    moved += Math.hypot(x - before[0], y - before[1]);
    fingers.set(event.pointerId, [x, y]);
    if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const [then, now] = [before, [x, y]].map((place) => Math.max(20, Math.hypot(place[0] - other[0], place[1] - other[1])));
      map.zoom(now / then, (x + other[0]) / 2, (y + other[1]) / 2);
    } else if (moved >= CLICK_PX) map.pan(x - before[0], y - before[1]);
  });
  const lift = (event) => {
    if (fingers.delete(event.pointerId) && event.type === "pointerup" && moved < CLICK_PX) chosen(...at(event));
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => hovered(null));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    map.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...at(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (step) { map.pan(step[0] * STEP_PX, step[1] * STEP_PX); event.preventDefault(); }
    else if (event.key === "Enter") chosen(canvas.clientWidth / 2, canvas.clientHeight / 2);
  });
}
