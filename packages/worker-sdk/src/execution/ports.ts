/** What the parts of an execution need of it. The execution implements all of these; a part sees only its own. */
import type { StepKind } from '@perdure/proto';
import type { Codec } from '../codec/codec.js';
import type { StepContext } from '../context.js';
import type { BodyReports } from './body-reports.js';
import type { Cancellation } from './cancellation.js';
import type { DeliveryQueue } from './delivery-queue.js';
import type { FailureLog } from './failure-log.js';
import type { Faults } from './faults.js';
import type { LeasedCalls } from './leased-calls.js';
import type { PayloadLimit } from './payload-limit.js';
import type { StepRef } from './program.js';
import type { RunFacts } from './run-facts.js';
import type { BodyResult, StepBody } from './step-body.js';
import type { ResolvedStepOptions } from './step-options.js';
import type { WaitEnd } from './waits.js';
import type { WorkCount } from './work-count.js';

/** How the author's promise is settled. */
export interface Settle {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

export interface StepCall {
  readonly step: StepRef;
  readonly body: (step: StepContext) => unknown;
  readonly options: ResolvedStepOptions;
  readonly settle: Settle;
}

export interface SleepCall {
  readonly step: StepRef;
  readonly when: { readonly durationMs: number } | { readonly until: Date };
  readonly settle: Settle;
}

/** For everything that records: calls under the lease, and the order of results. */
export interface RecordingHost {
  readonly facts: RunFacts;
  readonly calls: LeasedCalls;
  readonly delivery: DeliveryQueue;
  /** While it is not zero, the run is not suspended. */
  readonly work: WorkCount;
  readonly faults: Faults;
  /** The server says that a cancel is requested. */
  cancel(): void;
  /** Ms until a time of the database's clock. */
  untilMs(time: Date): number;
}

/** For steps and timers. */
export interface StepHost extends RecordingHost {
  readonly codec: Codec;
  readonly limit: PayloadLimit;
  readonly failures: FailureLog;
  readonly cancellation: Cancellation;
  readonly reports: BodyReports;
  /** How many steps and timers the code has asked for. */
  readonly seq: number;
  /** Leases of the run were lost just before this one: a body may be what kills its workers. */
  readonly isSuspect: boolean;
  /** @param onResult not called once the execution has ended */
  runBody(body: StepBody, onResult: (result: BodyResult) => void): void;
  wait(step: StepRef, on: 'TIMER' | 'RETRY', remainingMs: number): Promise<WaitEnd>;
}

/** For giving the run back and resuming it. */
export interface SuspensionHost extends RecordingHost {
  /** The code has not come to its end, and no work of ours is under way that needs the lease. */
  readonly isIdle: boolean;
  /** The suspension is committed: the lease is over, the code stays where it stands. */
  onSuspended(): void;
  /** Forgets the code; whoever holds the run next replays it. */
  evict(): void;
  release(reason: string): Promise<void>;
}

/** For recording how the code ended. */
export interface EndingHost {
  readonly facts: RunFacts;
  readonly calls: LeasedCalls;
  readonly codec: Codec;
  readonly limit: PayloadLimit;
  readonly failures: FailureLog;
}

/** For the author's `ctx`. */
export interface ContextHost extends StepHost {
  readonly replaying: boolean;
  /**
   * Gives the next use of a name its id and place, and compares it with what is recorded.
   *
   * @returns undefined when the call must never settle: the execution is over, or the run fails
   * @throws {Error} when the workflow's function has ended
   */
  open(name: string, kind: StepKind): StepRef | undefined;
}
