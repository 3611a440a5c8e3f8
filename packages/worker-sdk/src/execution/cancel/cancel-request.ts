import type { EventPlace, FailureLog } from '../order/failure-log.js';
import { CANCEL_EVENT } from '../order/memo.js';
import type { RecordingHost } from '../order/recording-host.js';
import type { Arrivals } from '../wait/arrivals.js';
import type { Waits } from '../wait/waits.js';
import type { Cancellation } from './cancellation.js';

export interface CancelHost extends RecordingHost {
  readonly cancellation: Cancellation;
  readonly arrivals: Arrivals;
  readonly failures: FailureLog;
  /** How many steps the code has requested. */
  readonly seq: number;
}

/** Takes in a cancel request: stops bodies, ends waits, and records at which place in the order of results the code learns of it. */
export class CancelRequest {
  readonly #host: CancelHost;
  readonly #waits: Waits;
  readonly #observedAt: EventPlace | undefined;
  #isObserved: boolean;
  #isMemoLoaded = false;
  /** It came before the memo was loaded, or before it was known what has arrived. */
  #isEarly = false;

  /** @param observedAt where the code has learned of it under an earlier lease */
  constructor(host: CancelHost, waits: Waits, observedAt: EventPlace | undefined) {
    this.#host = host;
    this.#waits = waits;
    this.#observedAt = observedAt;
    this.#isObserved = observedAt !== undefined;
  }

  /** The memo is loaded. Code that has learned of the request learns of it again at the same place. */
  replay(): void {
    this.#isMemoLoaded = true;
    const place = this.#observedAt;
    if (place !== undefined) this.#host.delivery.request(CANCEL_EVENT, () => this.#tell(place));
    if (this.#isEarly) this.receive();
  }

  /** The server says that a cancel is requested; a repeat changes nothing. */
  receive(): void {
    const { arrivals } = this.#host;
    // Its place is behind what is recorded and what has arrived, which is not known yet.
    if (!this.#isMemoLoaded || arrivals.isPending || arrivals.isTaking) this.#isEarly = true;
    else this.#take();
  }

  /** It is known what had arrived before. */
  onArrivalsTaken(): void {
    if (this.#isEarly && this.#isMemoLoaded) this.#take();
  }

  #take(): void {
    const { cancellation, faults, delivery } = this.#host;
    if (cancellation.isRequested) return;
    cancellation.request();
    if (!this.#isObserved) void faults.guard(() => this.#observe());
    this.#waits.cancel();
    delivery.recheck();
  }

  async #observe(): Promise<void> {
    const { delivery, work, calls } = this.#host;
    this.#isObserved = true;
    const ticket = delivery.reserve();
    await work.during(() => calls.call('observeCancel', { eventSeq: ticket.eventSeq }));
    const place = { leaseToken: calls.leaseToken, eventSeq: ticket.eventSeq };
    ticket.ready(() => this.#tell(place));
  }

  #tell(place: EventPlace): void {
    const { failures, cancellation, seq } = this.#host;
    failures.sawCancel(place, seq);
    cancellation.observe();
  }
}
