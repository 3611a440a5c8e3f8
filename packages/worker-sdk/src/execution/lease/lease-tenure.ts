import { dateOf, type LeasedRun } from '@perdure/proto';
import type { Clock } from '../../clock.js';
import type { Lease } from './lease.js';
import { LeasedCalls, type LeasedCallsOptions } from './leased-calls.js';

/** How an execution ended, that is, why the slot is free again. */
export type ExecutionEnd =
  | 'completed'
  | 'failed'
  /** As another run. */
  | 'continued'
  | 'retrying'
  | 'cancelled'
  | 'terminated'
  | 'suspended'
  | 'released'
  /** The worker cannot continue it: it is paused until somebody resumes it. */
  | 'held'
  /** The lease was lost; another worker continues the run. */
  | 'lost';

/** What an execution ended with. */
export interface Ended {
  readonly how: ExecutionEnd;
  /** What the code threw, when it failed. */
  readonly error?: unknown;
  /** The step whose failure it comes from. */
  readonly stepId?: string | undefined;
}

/** One lease of a run, with the calls made under it. An execution that is suspended and resumed has one tenure after another. */
export class LeaseTenure {
  readonly lease: Lease;
  readonly calls: LeasedCalls;
  /** How it ended; never rejects. */
  readonly ended: Promise<Ended>;
  /** The database's time of the claim. */
  readonly #claimedAt: Date | undefined;
  readonly #claimedAtMs: number;
  readonly #clock: Clock;
  #end: (ended: Ended) => void = () => undefined;

  /** @param claimedAtMs when the claim was received, by `options.clock` */
  constructor(leased: LeasedRun, lease: Lease, claimedAtMs: number, options: Omit<LeasedCallsOptions, 'lease'>) {
    this.#clock = options.clock;
    this.lease = lease;
    this.calls = new LeasedCalls({ ...options, lease });
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#claimedAt = leased.now === undefined ? undefined : dateOf(leased.now);
    this.#claimedAtMs = claimedAtMs;
  }

  /** Ends the tenure: no further call is sent under this lease. */
  end(ended: Ended): void {
    this.calls.end();
    this.#end(ended);
  }

  /**
   * Ms until a time of the database's clock, counted from the claim.
   *
   * @param claimedAt stands for the time of the claim when the server did not tell it
   */
  untilMs(time: Date, claimedAt: Date): number {
    const sinceClaimMs = this.#clock.nowMs() - this.#claimedAtMs;
    return time.getTime() - (this.#claimedAt ?? claimedAt).getTime() - sinceClaimMs;
  }
}
