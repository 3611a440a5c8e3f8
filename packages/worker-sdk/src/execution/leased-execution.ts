import type { LeasedRun } from '@perdure/proto';
import { type Clock, monotonicClock } from '../clock.js';
import type { RunInfo } from '../context.js';
import type { RunService } from '../rpc/worker-transport.js';
import type { RunExecutionOptions } from './execution-options.js';
import type { Lease } from './lease/lease.js';
import type { LeaseLoss } from './lease/lease-loss.js';
import { type Ended, LeaseTenure } from './lease/lease-tenure.js';
import type { LeasedCalls } from './lease/leased-calls.js';
import { Unrecorded } from './order/unrecorded.js';
import type { Faults } from './run/faults.js';
import { RunFacts } from './run/run-facts.js';

/** What an execution is through the lease that it holds now, one after the other. */
export abstract class LeasedExecution {
  readonly facts: RunFacts;
  abstract readonly faults: Faults;
  readonly unrecorded: Unrecorded;
  #isSuspect: boolean;
  protected readonly options: RunExecutionOptions;
  protected readonly clock: Clock;
  protected tenure: LeaseTenure;

  constructor(options: RunExecutionOptions) {
    this.options = options;
    this.clock = options.clock ?? monotonicClock;
    this.facts = new RunFacts(options.leased, options);
    this.#isSuspect = options.leased.lostLeases > 0;
    this.unrecorded = new Unrecorded((error) => this.faults.onError(error));
    this.tenure = this.#newTenure(options.leased, options.lease, options.claimedAtMs);
  }

  get isSuspect(): boolean {
    return this.#isSuspect;
  }

  get run(): RunInfo {
    return this.facts.run;
  }

  get runService(): RunService {
    return this.options.runService;
  }

  get lease(): Lease {
    return this.tenure.lease;
  }

  get calls(): LeasedCalls {
    return this.tenure.calls;
  }

  /** How the current lease ended; never rejects. */
  get ended(): Promise<Ended> {
    return this.tenure.ended;
  }

  get isKept(): boolean {
    return this.options.isKept;
  }

  untilMs(time: Date): number {
    return this.tenure.untilMs(time, this.facts.now);
  }

  abstract loseLease(how: LeaseLoss): void;

  /** The run is held under another lease. */
  protected beginTenure(leased: LeasedRun, lease: Lease, claimedAtMs: number): void {
    this.#isSuspect = false;
    this.tenure = this.#newTenure(leased, lease, claimedAtMs);
  }

  #newTenure(leased: LeasedRun, lease: Lease, claimedAtMs: number): LeaseTenure {
    const { transport, namespace, log } = this.options;
    return new LeaseTenure(leased, lease, claimedAtMs, {
      transport,
      namespace,
      log,
      clock: this.clock,
      unrecorded: this.unrecorded,
      onLost: (how) => this.loseLease(how),
      onFault: (error) => this.faults.release('The server failed repeatedly', error),
      onRefusal: (error) => this.faults.onError(error),
    });
  }
}
