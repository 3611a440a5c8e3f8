import { type Clock, monotonicClock } from '../../clock.js';
import { eventLoopTurn } from './event-loop-turn.js';
import { QueuedTicket, type ResultTicket } from './result-ticket.js';

/** How long code that awaits something of its own may take before a recorded result is passed over, in ms. */
const UNREQUESTED_GRACE_MS = 50;

/**
 * Hands results to the workflow's code, one per turn of the event loop, in an order that a replay repeats: first those that
 * are recorded, as they were recorded, then live ones in the order in which they were sent to be recorded. Between two
 * results the code runs until it stands still, so what it requests next depends on the order of results alone.
 *
 * A recorded result that the code does not request is passed over after a moment and reported; requested later, it is
 * delivered then. (Code changes, and waits of the code's own that take real time, lead to this.)
 */
export class DeliveryQueue {
  readonly #recorded: readonly string[];
  readonly #onIdle: () => void;
  readonly #wantsIdle: () => boolean;
  readonly #requested = new Map<string, () => void>();
  readonly #passedOver = new Set<string>();
  readonly #tickets: QueuedTicket[] = [];
  readonly #onTicket = (ticket: QueuedTicket, mayDeliverNow: boolean) => this.#ticketChanged(ticket, mayDeliverNow);
  #cursor = 0;
  /** 1 is the place of what the claim has taken from outside. */
  #nextEventSeq = 2;
  #deliveredInTurn = -1;
  #scheduled = false;
  #stopped = false;
  readonly #clock: Clock;
  /** Ends the grace period. */
  #grace: (() => void) | undefined;
  #graceOver = false;

  /**
   * @param recorded what was delivered, in its order: step ids, or other names of events
   * @param onIdle called when nothing is left to deliver for now
   * @param wantsIdle whether to call it after a delivery
   */
  constructor(
    recorded: readonly string[],
    onIdle: () => void,
    wantsIdle: () => boolean = () => true,
    clock: Clock = monotonicClock,
  ) {
    this.#recorded = recorded;
    this.#onIdle = onIdle;
    this.#wantsIdle = wantsIdle;
    this.#clock = clock;
  }

  /** There are recorded results that the code has not seen yet. */
  get replaying(): boolean {
    return this.#cursor < this.#recorded.length;
  }

  /** It is the next to be delivered, and no other result is on its way. */
  isAlone(ticket: ResultTicket): boolean {
    return this.#tickets.length === 1 && this.#tickets[0] === ticket && !this.replaying && !this.#stopped;
  }

  /** Recorded results that the code did not request. */
  get unrequested(): readonly string[] {
    return [
      ...this.#passedOver,
      ...this.#recorded.slice(this.#cursor).filter((stepId) => !this.#requested.has(stepId)),
    ];
  }

  /** The code requests a recorded result. */
  request(stepId: string, deliver: () => void): void {
    if (this.#passedOver.delete(stepId)) {
      this.enqueue(deliver);
      return;
    }
    this.#requested.set(stepId, deliver);
    this.recheck();
  }

  /** Takes the next place in the order of live results. */
  reserve(): ResultTicket {
    const ticket = new QueuedTicket(this.#nextEventSeq++, this.#onTicket);
    this.#tickets.push(ticket);
    return ticket;
  }

  #ticketChanged(ticket: QueuedTicket, mayDeliverNow: boolean): void {
    if (mayDeliverNow && ticket.deliver !== undefined && this.#mayDeliverNow(ticket)) this.#deliver(ticket.deliver);
    else this.recheck();
  }

  /** Takes the next place, for a result that is recorded already: it is delivered in a later turn. */
  enqueue(deliver: () => void): void {
    const ticket = new QueuedTicket(this.#nextEventSeq++, this.#onTicket);
    ticket.deliver = deliver;
    this.#tickets.push(ticket);
    this.recheck();
  }

  /** Something has changed: look in the next turn whether a result can be delivered. */
  recheck(): void {
    this.#grace?.();
    this.#grace = undefined;
    this.#graceOver = false;
    this.#schedule();
  }

  /** Stops all deliveries. */
  stop(): void {
    this.#stopped = true;
    this.#grace?.();
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
      const deliver = this.#requested.get(stepId);
      if (deliver !== undefined) {
        this.#cursor++;
        this.#requested.delete(stepId);
        this.#deliveredInTurn = eventLoopTurn();
        deliver();
        this.recheck();
        return;
      }
      if (!this.#graceOver) {
        this.#grace ??= this.#clock.after(UNREQUESTED_GRACE_MS, () => {
          this.#grace = undefined;
          this.#graceOver = true;
          this.#schedule();
        });
        return;
      }
      this.#cursor++;
      this.#passedOver.add(stepId);
    }
    while (this.#tickets[0]?.released) this.#tickets.shift();
    const deliver = this.#tickets[0]?.deliver;
    if (deliver !== undefined) this.#deliver(deliver);
    else this.#onIdle();
  }

  /** Nothing is before it, and the code has had its turn for what was delivered last. */
  #mayDeliverNow(ticket: QueuedTicket): boolean {
    return (
      !this.#stopped &&
      !this.#scheduled &&
      !this.replaying &&
      this.#tickets[0] === ticket &&
      this.#deliveredInTurn !== eventLoopTurn()
    );
  }

  /** Delivers the first ticket's result, or the next one of several. */
  #deliver(deliver: () => void): void {
    const ticket = this.#tickets[0];
    const next = ticket?.more?.pop();
    if (ticket !== undefined && next !== undefined) ticket.deliver = next;
    else this.#tickets.shift();
    this.#deliveredInTurn = eventLoopTurn();
    deliver();
    if (this.#tickets.length > 0 || this.#wantsIdle()) this.recheck();
  }
}
