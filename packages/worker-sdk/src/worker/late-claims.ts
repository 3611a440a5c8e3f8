import { type LeasedRun, msOf } from '@perdure/proto';
import type { Logger } from 'pino';
import { type Clock, pause } from '../clock.js';
import type { Lease } from '../execution/lease/lease.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { Workflow } from '../workflow.js';
import type { LeaseKeeper } from './lease-keeper.js';

/** A leased run, as it arrived. */
export interface Claim {
  readonly leased: LeasedRun;
  readonly lease: Lease;
  readonly workflow: Workflow;
  /** When the answer was read, by the clock. */
  readonly receivedAtMs: number;
}

export interface LateClaimsOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly keeper: () => Pick<LeaseKeeper, 'confirm'>;
  /** The lease is still held, and was just renewed. */
  readonly onHeld: (claim: Claim) => void;
  /** The lease is lost, or its state cannot be found out. Nothing was done under it, so nothing is lost with it. */
  readonly onGone: (claim: Claim) => void;
}

/** Keys of leases, see {@link leaseKey}. */
export interface NoticedLeases {
  /** Whose run is being cancelled. */
  readonly cancelled: ReadonlySet<string>;
  readonly ended: ReadonlySet<string>;
  /** For whose run something has come from outside. */
  readonly awaited: ReadonlySet<string>;
}

const RETRY_MS = 250;

/**
 * Runs that arrived so late that their lease may be over, because the network or this process stalled. Renews their leases
 * until each is known to be held or lost.
 */
export class LateClaims {
  readonly #options: LateClaimsOptions;
  readonly #waiting = new Map<string, Claim>();

  constructor(options: LateClaimsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** @param claims of one poll: no more than a heartbeat accepts */
  async confirm(claims: readonly Claim[]): Promise<void> {
    for (const claim of claims) this.#waiting.set(leaseKey(claim.lease), claim);
    const isWaiting = (claim: Claim) => this.#waiting.get(leaseKey(claim.lease)) === claim;
    for (let waiting = claims; waiting.length > 0; waiting = waiting.filter(isWaiting)) {
      try {
        const states = await this.#options.keeper().confirm(waiting.map(({ lease }) => lease));
        waiting.forEach((claim, index) => {
          const state = states[index];
          if (!isWaiting(claim)) return;
          if (state?.cancelRequested) claim.leased.cancelRequested = true;
          if (state?.hasArrivals) claim.leased.hasArrivals = true;
          if (!state?.renewed) this.#end(claim, 'onGone');
          // The answer to the renewal may have come late as well; then it is renewed again.
          else if (claim.lease.mayBegin) this.#end(claim, 'onHeld');
        });
      } catch (error) {
        await this.#failed(waiting.filter(isWaiting), error);
      }
    }
  }

  /** @returns the keys of all leases that were waiting */
  onNotices({ cancelled, ended, awaited }: NoticedLeases): readonly string[] {
    const waiting = [...this.#waiting];
    for (const [key, claim] of waiting) {
      if (awaited.has(key)) claim.leased.hasArrivals = true;
      if (ended.has(key)) this.#end(claim, 'onGone');
      else if (cancelled.has(key)) claim.leased.cancelRequested = true;
    }
    return waiting.map(([key]) => key);
  }

  /** Stops confirming. @returns the claims that waited; each has been passed to `onGone` */
  giveUp(): readonly Claim[] {
    const claims = [...this.#waiting.values()];
    for (const claim of claims) this.#end(claim, 'onGone');
    return claims;
  }

  async #failed(waiting: readonly Claim[], error: unknown): Promise<void> {
    const { clock, log } = this.#options;
    log.warn({ event: 'heartbeat_failed', message: error instanceof Error ? error.message : String(error) });
    const isTransient = error instanceof RpcError && error.isTransient;
    for (const claim of waiting) {
      const waitedMs = clock.nowMs() - claim.receivedAtMs;
      // By then the lease is over.
      if (!isTransient || waitedMs > (msOf(claim.leased.leaseDuration) ?? 0)) this.#end(claim, 'onGone');
    }
    if (this.size > 0) await pause(clock, RETRY_MS * (0.5 + Math.random()));
  }

  #end(claim: Claim, how: 'onHeld' | 'onGone'): void {
    this.#waiting.delete(leaseKey(claim.lease));
    this.#options[how](claim);
  }
}

/** Tells leases apart, also those of one run. */
export function leaseKey({ runId, leaseToken }: { readonly runId: string; readonly leaseToken: number }): string {
  return `${runId}/${leaseToken}`;
}
