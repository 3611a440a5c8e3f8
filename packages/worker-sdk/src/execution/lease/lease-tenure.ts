import type { LeasedRun } from '@perdure/proto';
import { dateOf } from '../../rpc/time.js';
import type { Lease } from './lease.js';
import { LeasedCalls, type LeasedCallsOptions } from './leased-calls.js';

/** How an execution ended, that is, why the slot is free again. */
export type ExecutionEnd =
  | 'completed'
  | 'failed'
  | 'retrying'
  | 'cancelled'
  | 'suspended'
  | 'released'
  /** The lease is not ours any more; another worker goes on. */
  | 'lost';

/** What an execution ended with. */
export interface Ended {
  readonly how: ExecutionEnd;
  /** What the code threw, when it failed. */
  readonly error?: unknown;
  /** The step whose failure it comes from. */
  readonly stepId?: string | undefined;
}

/** What belongs to one lease of a run: an execution that is suspended and goes on has one after the other. */
export class Holding {
  readonly lease: Lease;
  readonly calls: LeasedCalls;
  /** How it ended; never rejects. */
  readonly ended: Promise<Ended>;
  /** The database's time of the claim. */
  readonly #claimedAt: Date | undefined;
  readonly #claimedAtMs: number;
  #end: (ended: Ended) => void = () => undefined;

  /** @param claimedAtMs when the claim was received, by the monotonic clock */
  constructor(leased: LeasedRun, lease: Lease, claimedAtMs: number, options: Omit<LeasedCallsOptions, 'lease'>) {
    this.lease = lease;
    this.calls = new LeasedCalls({ ...options, lease });
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#claimedAt = leased.now === undefined ? undefined : dateOf(leased.now);
    this.#claimedAtMs = claimedAtMs;
  }

  /** Nothing is sent under this lease any more. */
  end(ended: Ended): void {
    this.calls.end();
    this.#end(ended);
  }

  /**
   * Ms until a time of the database's clock, reckoned from the claim.
   *
   * @param claimedAt stands for the time of the claim when the server did not tell it
   */
  untilMs(time: Date, claimedAt: Date): number {
    const sinceClaimMs = performance.now() - this.#claimedAtMs;
    return time.getTime() - (this.#claimedAt ?? claimedAt).getTime() - sinceClaimMs;
  }
}
