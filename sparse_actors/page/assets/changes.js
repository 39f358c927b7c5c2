// The connection to the run: what changed comes in binary messages, each answered once it is drawn.

const PAUSE_MS = [500, 1000, 2000, 5000];

export function unpack(buffer) {
  const size = new DataView(buffer).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  let offset = 4 + size;
  header.blocks = header.blocks.map((described) => {
    const bytes = new Uint8Array(buffer, offset, described[described.length - 1]);
    offset += bytes.length;
    return [...described.slice(0, -1), bytes];
  });
  return header;
}

// Calls take(message, drawn) for each message; drawn() lets the next one come. lost() when nobody answers.
export function follow(take, lost) {
  let failures = 0;
  function connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/changes`);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", (event) => {
      failures = 0;
      take(unpack(event.data), () => {
        if (socket.readyState === WebSocket.OPEN) socket.send("drawn");
      });
    });
    socket.addEventListener("close", () => {
      lost();
      setTimeout(connect, PAUSE_MS[Math.min(failures, PAUSE_MS.length - 1)]);
      failures += 1;
    });
  }
  connect();
}
