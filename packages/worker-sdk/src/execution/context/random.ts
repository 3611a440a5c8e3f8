/**
 * A small generator of pseudo-random numbers (splitmix64 by Steele, Lea and Flood, 2014), seeded by the run id: every replay
 * of a run draws the same sequence.
 */
export class SeededRandom {
  #state: bigint;

  /** @param runId a UUID; its last 64 bits are the random ones */
  constructor(runId: string) {
    this.#state = BigInt(`0x${runId.replaceAll('-', '').slice(16)}`);
  }

  /** 0 ≤ x < 1, with 53 random bits. */
  next(): number {
    return Number(this.#next64() >> 11n) / 2 ** 53;
  }

  /** A version 4 UUID. */
  uuid(): string {
    const high = (this.#next64() & ~0xf000n) | 0x4000n;
    const low = (this.#next64() & ~(0xcn << 60n)) | (0x8n << 60n);
    const hex = high.toString(16).padStart(16, '0') + low.toString(16).padStart(16, '0');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }

  #next64(): bigint {
    this.#state = BigInt.asUintN(64, this.#state + 0x9e3779b97f4a7c15n);
    let z = this.#state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return z ^ (z >> 31n);
  }
}
