/** A poll under way: it holds one slot, and one of each type that it asks for. */
export interface PollTicket {
  readonly types: readonly string[];
}

/** So many polls wait at once at the most, as long as every type with room is asked for. */
const MAX_POLLS = 100;

/**
 * Counts a worker's slots. A poll may bring a run of any type it asks for, so while it is under way it counts against the
 * limit of each: however many come back at once, no limit is exceeded.
 */
export class SlotLedger {
  readonly #concurrency: number;
  readonly #types: readonly string[];
  readonly #limits: Readonly<Record<string, number>>;
  readonly #running = new Map<string, number>();
  /** Polls under way that ask for the type. */
  readonly #asked = new Map<string, number>();
  #polls = 0;
  #runningTotal = 0;

  /** @param limits runs of a type at once; a type that is not named is limited by `concurrency` alone */
  constructor(concurrency: number, types: readonly string[], limits: Readonly<Record<string, number>>) {
    this.#concurrency = concurrency;
    this.#types = types;
    this.#limits = limits;
  }

  get running(): number {
    return this.#runningTotal;
  }

  get polls(): number {
    return this.#polls;
  }

  /** @returns a ticket for one more poll; undefined when there is no room for what it could bring, or no need */
  openPoll(): PollTicket | undefined {
    if (this.#runningTotal + this.#polls >= this.#concurrency) return undefined;
    const types = this.#types.filter((type) => this.#hasRoom(type));
    if (types.length === 0) return undefined;
    if (this.#polls >= MAX_POLLS && types.every((type) => this.#askedOf(type) > 0)) return undefined;
    this.#polls++;
    for (const type of types) this.#asked.set(type, this.#askedOf(type) + 1);
    return { types };
  }

  closePoll(ticket: PollTicket): void {
    this.#polls--;
    for (const type of ticket.types) this.#asked.set(type, this.#askedOf(type) - 1);
  }

  begin(type: string): void {
    this.#runningTotal++;
    this.#running.set(type, this.#runningOf(type) + 1);
  }

  end(type: string): void {
    this.#runningTotal--;
    this.#running.set(type, this.#runningOf(type) - 1);
  }

  #hasRoom(type: string): boolean {
    const limit = Object.hasOwn(this.#limits, type) ? this.#limits[type] : undefined;
    if (limit === undefined) return true;
    return this.#runningOf(type) + this.#askedOf(type) < limit;
  }

  #askedOf(type: string): number {
    return this.#asked.get(type) ?? 0;
  }

  #runningOf(type: string): number {
    return this.#running.get(type) ?? 0;
  }
}
