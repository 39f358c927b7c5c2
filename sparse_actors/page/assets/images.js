// Images of tiles, fetched when they are seen and forgotten when they have not been for long.

const KEPT = 500;
const AT_A_TIME = 4;
const AGAIN_MS = 700;
const WIDTHS = [128, 512, 1536];

export class Images {
  constructor(loaded) {
    this.loaded = loaded;
    this.clear();
  }

  clear() {
    for (const entry of this.entries?.values() ?? []) entry.bitmap?.close();
    this.entries = new Map();
    this.generation = (this.generation ?? 0) + 1;
    this.fetching = 0;
    this.wanted = [];
  }

  // Begin a frame: what is asked for from here on is what is seen.
  begin() { this.wanted = []; }

  // The best image there is of a tile for a width on the screen; asks for a better one.
  get(tile, name, width) {
    const wanted = WIDTHS.find((one) => one >= width) ?? WIDTHS[WIDTHS.length - 1];
    const hasAny = WIDTHS.some((one) => this.entries.get(`${name} ${one}`)?.bitmap);
    const level = hasAny ? wanted : WIDTHS[0];
    const version = level === WIDTHS[0] ? tile.f : tile.v;
    const key = `${name} ${level}`;
    const entry = this.entries.get(key);
    if (entry?.version !== version && tile.f && !entry?.isFetching) this.wanted.push({ key, name, level, version });
    if (entry) { this.entries.delete(key); this.entries.set(key, entry); }
    if (entry?.bitmap) return entry.bitmap;
    for (const other of [...WIDTHS].reverse()) {
      const bitmap = this.entries.get(`${name} ${other}`)?.bitmap;
      if (bitmap) return bitmap;
    }
    return null;
  }

  // End a frame: fetch some of what was asked for.
  end() {
    const now = performance.now();
    for (const want of this.wanted) {
      if (this.fetching >= AT_A_TIME) return;
      const entry = this.entries.get(want.key) ?? { version: -1, bitmap: null, isFetching: false, at: -AGAIN_MS };
      if (entry.isFetching || now - entry.at < AGAIN_MS) continue;
      this.entries.set(want.key, entry);
      this.#fetch(want, entry);
    }
  }

  async #fetch({ name, level, version }, entry) {
    const generation = this.generation;
    entry.isFetching = true;
    entry.at = performance.now();
    this.fetching += 1;
    try {
      const answer = await fetch(`tile/${name}.jpg?width=${level}&rescans=${level > WIDTHS[0] ? 1 : 0}`);
      if (answer.ok) {
        const bitmap = await createImageBitmap(await answer.blob());
        if (generation !== this.generation) { bitmap.close(); return; }
        entry.bitmap?.close();
        entry.bitmap = bitmap;
        entry.version = version;
      }
    } catch {
      // The next frame asks again.
    } finally {
      entry.isFetching = false;
      if (generation === this.generation) this.fetching -= 1;
    }
    this.#forget();
    this.loaded();
  }

  #forget() {
    for (const [key, entry] of this.entries) {
      if (this.entries.size <= KEPT) return;
      if (entry.isFetching) continue;
      entry.bitmap?.close();
      this.entries.delete(key);
    }
  }
}
