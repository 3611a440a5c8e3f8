import { eventLoopTurn } from './event-loop-turn.js';

/** How long code that awaits something of its own may take before a recorded result is passed over, in ms. */
const UNASKED_GRACE_MS = 50;

/** The place of one live result in the order of results. */
export interface Slot {
  /** What is recorded with the result. */
  readonly eventSeq: number;
  /**
   * The result is committed; it is delivered once it is its turn: at once, when nothing is before it. To be called when the
   * code stands still, that is, not from the code itself.
   */
  ready(deliver: () => void): void;
  /** There will be no result under this number. */
  release(): void;
}

class LiveSlot implements Slot {
  deliver: (() => void) | undefined;
  released = false;
  readonly eventSeq: number;
  readonly #onChange: (slot: LiveSlot) => void;

  constructor(eventSeq: number, onChange: (slot: LiveSlot) => void) {
    this.eventSeq = eventSeq;
    this.#onChange = onChange;
  }

  ready(deliver: () => void): void {
    this.deliver = deliver;
    this.#onChange(this);
  }

  release(): void {
    this.released = true;
    this.#onChange(this);
  }
}

/**
 * Hands results to the workflow's code, one per turn of the event loop, in an order that a replay repeats: first those that
 * are recorded, as they were recorded, then live ones in the order in which they were sent to be recorded. Between two
 * results the code runs until it stands still, so what it asks for next depends on the order of results alone.
 *
 * A recorded result that the code does not ask for is passed over after a moment and reported; asked for later, it is
 * delivered then. (Code changes, and waits of the code's own that take real time, lead to this.)
 */
export class DeliveryQueue {
  readonly #recorded: readonly string[];
  readonly #onQuiet: () => void;
  readonly #wantsQuiet: () => boolean;
  readonly #asked = new Map<string, () => void>();
  readonly #passedOver = new Set<string>();
  readonly #slots: LiveSlot[] = [];
  readonly #onSlot = (slot: LiveSlot) => this.#slotChanged(slot);
  #cursor = 0;
  #nextEventSeq = 1;
  #deliveredInTurn = -1;
  #scheduled = false;
  #stopped = false;
  #grace: NodeJS.Timeout | undefined;
  #graceOver = false;

  /**
   * @param recorded step ids in the order in which their results were delivered
   * @param onQuiet called when nothing is left to deliver for now
   * @param wantsQuiet whether to call it after a delivery
   */
  constructor(recorded: readonly string[], onQuiet: () => void, wantsQuiet: () => boolean = () => true) {
    this.#recorded = recorded;
    this.#onQuiet = onQuiet;
    this.#wantsQuiet = wantsQuiet;
  }

  /** There are recorded results that the code has not seen yet. */
  get replaying(): boolean {
    return this.#cursor < this.#recorded.length;
  }

  /** Recorded results that the code did not ask for. */
  get unasked(): readonly string[] {
    return [...this.#passedOver, ...this.#recorded.slice(this.#cursor).filter((stepId) => !this.#asked.has(stepId))];
  }

  /** The code asks for a recorded result. */
  ask(stepId: string, deliver: () => void): void {
    if (this.#passedOver.delete(stepId)) {
      this.later(deliver);
      return;
    }
    this.#asked.set(stepId, deliver);
    this.touch();
  }

  /** Takes the next place in the order of live results. */
  reserve(): Slot {
    const slot = new LiveSlot(this.#nextEventSeq++, this.#onSlot);
    this.#slots.push(slot);
    return slot;
  }

  #slotChanged(slot: LiveSlot): void {
    if (slot.deliver !== undefined && this.#mayDeliverNow(slot)) this.#deliver(slot.deliver);
    else this.touch();
  }

  /** Takes the next place, for something that is delivered in a later turn; nothing is recorded with it. */
  later(deliver: () => void): void {
    const slot = new LiveSlot(this.#nextEventSeq++, this.#onSlot);
    slot.deliver = deliver;
    this.#slots.push(slot);
    this.touch();
  }

  /** Something happened: look again in the next turn. */
  touch(): void {
    if (this.#grace !== undefined) {
      clearTimeout(this.#grace);
      this.#grace = undefined;
    }
    this.#graceOver = false;
    this.#schedule();
  }

  /** Nothing is delivered any more. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#grace);
  }

  #schedule(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (!this.#stopped) this.#turn();
    });
  }

  #turn(): void {
    while (this.#cursor < this.#recorded.length) {
      const stepId = this.#recorded[this.#cursor] as string;
      const deliver = this.#asked.get(stepId);
      if (deliver !== undefined) {
        this.#cursor++;
        this.#asked.delete(stepId);
        this.#deliveredInTurn = eventLoopTurn();
        deliver();
        this.touch();
        return;
      }
      if (!this.#graceOver) {
        this.#grace ??= setTimeout(() => {
          this.#grace = undefined;
          this.#graceOver = true;
          this.#schedule();
        }, UNASKED_GRACE_MS);
        return;
      }
      this.#cursor++;
      this.#passedOver.add(stepId);
    }
    while (this.#slots[0]?.released) this.#slots.shift();
    const deliver = this.#slots[0]?.deliver;
    if (deliver !== undefined) this.#deliver(deliver);
    else this.#onQuiet();
  }

  /** Nothing is before it, and the code has had its turn for what was delivered last. */
  #mayDeliverNow(slot: LiveSlot): boolean {
    return (
      !this.#stopped &&
      !this.#scheduled &&
      !this.replaying &&
      this.#slots[0] === slot &&
      this.#deliveredInTurn !== eventLoopTurn()
    );
  }

  /** Delivers the first slot. */
  #deliver(deliver: () => void): void {
    this.#slots.shift();
    this.#deliveredInTurn = eventLoopTurn();
    deliver();
    if (this.#slots.length > 0 || this.#wantsQuiet()) this.touch();
  }
}
