import { CANCEL_EVENT } from '../order/memo.js';
import type { RecordingHost } from '../order/recording-host.js';
import type { Arrivals } from '../wait/arrivals.js';
import type { Waits } from '../wait/waits.js';
import type { Cancellation } from './cancellation.js';

export interface CancelHost extends RecordingHost {
  readonly cancellation: Cancellation;
  readonly arrivals: Arrivals;
}

/** Takes in a cancel request: stops bodies, ends waits, and records at which place in the order of results the code learns of it. */
export class CancelRequest {
  readonly #host: CancelHost;
  readonly #waits: Waits;
  #isObserved: boolean;
  #isMemoLoaded = false;
  /** It came before the memo was loaded, or before it was known what has arrived. */
  #isEarly = false;

  /** @param isObserved the code has learned of it under an earlier lease */
  constructor(host: CancelHost, waits: Waits, isObserved: boolean) {
    this.#host = host;
    this.#waits = waits;
    this.#isObserved = isObserved;
  }

  /** The memo is loaded. Code that has learned of the request learns of it again at the same place. */
  replay(): void {
    this.#isMemoLoaded = true;
    if (this.#isObserved) this.#host.delivery.request(CANCEL_EVENT, () => this.#host.cancellation.observe());
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
    const { cancellation, delivery, work, calls } = this.#host;
    this.#isObserved = true;
    const ticket = delivery.reserve();
    await work.during(() => calls.call('observeCancel', { eventSeq: ticket.eventSeq }));
    ticket.ready(() => cancellation.observe());
  }
}
