import type { ClaimedRun } from '@perdure/store';

/** What a poll ends with. */
export type PollResult =
  | { readonly kind: 'claimed'; readonly claims: readonly ClaimedRun[] }
  | { readonly kind: 'empty' }
  | { readonly kind: 'worker_not_registered' }
  | { readonly kind: 'worker_draining' }
  | { readonly kind: 'failed'; readonly error: unknown };

export interface PollSlots {
  readonly workerId: string;
  /** Runs that it has room for. */
  readonly maxRuns: number;
  /** The worker's lease, as registered. */
  readonly leaseMs: number;
}

/** One long poll that waits for runs. It ends with the first that come. */
export class WaitingPoll implements PollSlots {
  readonly workerId: string;
  readonly maxRuns: number;
  readonly leaseMs: number;
  readonly #onEnd: (result: PollResult) => void;
  readonly claims: ClaimedRun[] = [];
  /** Slots that are part of a statement under way: it cannot just be dropped. */
  reserved = 0;
  /** A claim has looked for it at least once, or nobody has to. */
  tried = false;
  /** Its wait is over: it ends with the statement under way, or with its first one. */
  expired = false;
  /** Its caller is gone: it must not be handed a run. */
  gone = false;

  /** @param onEnd called once */
  constructor({ workerId, maxRuns, leaseMs }: PollSlots, onEnd: (result: PollResult) => void) {
    this.workerId = workerId;
    this.maxRuns = maxRuns;
    this.leaseMs = leaseMs;
    this.#onEnd = onEnd;
  }

  /** Slots that a run may be claimed for. */
  get free(): number {
    return this.gone || this.expired ? 0 : this.maxRuns - this.reserved - this.claims.length;
  }

  settle(result: PollResult): void {
    this.#onEnd(result);
  }
}
