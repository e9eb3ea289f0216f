/** Waits between tries to reconnect: 1 s doubling to 30 s, with jitter so that many pages do not return at once. */
export class Backoff {
  private tries = 0;

  constructor(private readonly first = 1000, private readonly most = 30_000, private readonly random: () => number = Math.random) {}

  /** Milliseconds to wait before the next try: between 50% and 100% of the current step, never below `first / 2`. */
  next(): number {
    const step = Math.min(this.most, this.first * 2 ** Math.min(this.tries, 20));
    this.tries += 1;
    return Math.round(step * (0.5 + 0.5 * this.random()));
  }

  reset(): void {
    this.tries = 0;
  }
}
