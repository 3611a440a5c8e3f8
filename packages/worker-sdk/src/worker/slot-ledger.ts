/** An open poll: it holds slots, and as many of each type that it requests. */
export interface PollTicket {
  readonly types: readonly string[];
  /** Runs that it may return. */
  readonly slots: number;
}

/** Limit for open polls, as long as every type with room is requested by one. */
const MAX_POLLS = 10;
/** The server accepts no more in one poll. */
const MAX_SLOTS = 1_000;

/**
 * Counts a worker's slots. A poll may return runs of any type it requests, so while it is open its slots count against the
 * limit of each: however many runs return at once, no limit is exceeded.
 *
 * The free slots are spread over a few polls: while one returns its runs, others wait for the next ones.
 */
export class SlotLedger {
  readonly #concurrency: number;
  readonly #types: readonly string[];
  readonly #limits: Readonly<Record<string, number>>;
  readonly #running = new Map<string, number>();
  /** Slots of open polls that request the type. */
  readonly #requested = new Map<string, number>();
  #polls = 0;
  #polledSlots = 0;
  #runningTotal = 0;

  /** @param limits runs of a type at the same time; a type without one is limited by `concurrency` alone */
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

  /** @returns a ticket for one more poll; undefined when there is no room for more runs, or no need */
  openPoll(): PollTicket | undefined {
    const free = this.#concurrency - this.#runningTotal - this.#polledSlots;
    if (free <= 0) return undefined;
    const types = this.#types.filter((type) => this.#roomFor(type) > 0);
    if (types.length === 0) return undefined;
    if (this.#polls >= MAX_POLLS && types.every((type) => this.#requestedOf(type) > 0)) return undefined;
    const share = Math.ceil(free / Math.max(1, MAX_POLLS - this.#polls));
    const slots = Math.min(MAX_SLOTS, share, ...types.map((type) => this.#roomFor(type)));
    this.#polls++;
    this.#polledSlots += slots;
    for (const type of types) this.#requested.set(type, this.#requestedOf(type) + slots);
    return { types, slots };
  }

  closePoll({ types, slots }: PollTicket): void {
    this.#polls--;
    this.#polledSlots -= slots;
    for (const type of types) this.#requested.set(type, this.#requestedOf(type) - slots);
  }

  begin(type: string): void {
    this.#runningTotal++;
    this.#running.set(type, this.#runningOf(type) + 1);
  }

  end(type: string): void {
    this.#runningTotal--;
    this.#running.set(type, this.#runningOf(type) - 1);
  }

  #roomFor(type: string): number {
    const limit = Object.hasOwn(this.#limits, type) ? this.#limits[type] : undefined;
    return limit === undefined ? Number.POSITIVE_INFINITY : limit - this.#runningOf(type) - this.#requestedOf(type);
  }

  #requestedOf(type: string): number {
    return this.#requested.get(type) ?? 0;
  }

  #runningOf(type: string): number {
    return this.#running.get(type) ?? 0;
  }
}
