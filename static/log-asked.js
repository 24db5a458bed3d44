// What a page asked the server to follow and was not answered yet. The server answers one after the other.

export class Asked {
  constructor() {
    this.last = 0;
    this.open = [];
  }

  /** What was asked last and is still open; null if nothing is. */
  get newest() { return this.open.at(-1) ?? null; }

  /** Asks for something: gives it a number. */
  add(wanted) {
    this.last += 1;
    const ask = { id: this.last, ...wanted };
    this.open.push(ask);
    return ask;
  }

  /** On a new connection only the newest is asked again. */
  renew() {
    this.open = this.open.slice(-1);
    return this.newest;
  }

  /** The server follows what was asked under this number: that, or null if it is no longer waited for. */
  agreed(id) { return this.take(this.open.findIndex((ask) => ask.id === id)); }

  /** The server refuses what was asked under this number; without one, what waits longest. */
  refused(id) { return this.take(id === undefined ? 0 : this.open.findIndex((ask) => ask.id === id)); }

  /** Takes out what stands there, and what was asked before it. */
  take(at) { return this.open.splice(0, at + 1).at(-1) ?? null; }
}
