/** The place of one live result in the order of results. */
export interface ResultTicket {
  /** What is recorded with the result. */
  readonly eventSeq: number;
  /**
   * The result is committed; it is delivered when its turn comes, immediately when nothing is before it. Call it while the
   * workflow's code stands still, never from that code.
   */
  ready(deliver: () => void): void;
  /** Like {@link ready}, from the workflow's code also: it is delivered in a later turn at the earliest. */
  readyLater(deliver: () => void): void;
  /** The same for several results with this place: each is delivered in a turn of its own. None: like {@link release}. */
  readyAll(deliveries: readonly (() => void)[]): void;
  /** There will be no result under this number. */
  release(): void;
}

/** A ticket that waits in the delivery queue. */
export class QueuedTicket implements ResultTicket {
  deliver: (() => void) | undefined;
  /** What follows {@link deliver} under the same number, the next one last. */
  more: (() => void)[] | undefined;
  released = false;
  readonly eventSeq: number;
  readonly #onChange: (ticket: QueuedTicket, mayDeliverNow: boolean) => void;

  /** @param onChange called when the ticket is ready or released */
  constructor(eventSeq: number, onChange: (ticket: QueuedTicket, mayDeliverNow: boolean) => void) {
    this.eventSeq = eventSeq;
    this.#onChange = onChange;
  }

  ready(deliver: () => void): void {
    this.deliver = deliver;
    this.#onChange(this, true);
  }

  readyLater(deliver: () => void): void {
    this.deliver = deliver;
    this.#onChange(this, false);
  }

  readyAll(deliveries: readonly (() => void)[]): void {
    const [first, ...others] = deliveries;
    if (first === undefined) {
      this.release();
      return;
    }
    if (others.length > 0) this.more = others.reverse();
    this.ready(first);
  }

  release(): void {
    this.released = true;
    this.#onChange(this, true);
  }
}
