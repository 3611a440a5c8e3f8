import type { AwaitStepRequest, AwaitStepResponse, ReceivedUpdate, StepKind } from '@perdure/proto';
import type { Codec } from '../../codec/codec.js';
import type { StepContext } from '../../context.js';
import type { BodyReports } from '../body/body-reports.js';
import type { BodyResult, StepBody } from '../body/step-body.js';
import type { Cancellation } from '../cancel/cancellation.js';
import type { FailureLog } from '../order/failure-log.js';
import type { StepRef } from '../order/program.js';
import type { RecordingHost } from '../order/recording-host.js';
import type { ResultTicket } from '../order/result-ticket.js';
import type { PayloadLimit } from '../run/payload-limit.js';
import type { Arrivals, OnArrival } from '../wait/arrivals.js';
import type { NewWait, WaitEnd } from '../wait/waits.js';
import type { RetryBudget } from './retry-budget.js';
import type { ResolvedStepOptions } from './step-options.js';

/** How the author's promise is settled. */
export interface Settle {
  /** @param update what a step of kind UPDATE has received */
  resolve(value: unknown, update?: ReceivedUpdate): void;
  reject(error: unknown): void;
  /** The step was skipped by hand: the code is given undefined, whatever it would check of a value. Absent: {@link resolve}. */
  skip?(): void;
}

/** One `ctx.step` of the author's code. */
export interface StepCall {
  readonly step: StepRef;
  readonly body: (step: StepContext) => unknown;
  readonly options: ResolvedStepOptions;
  readonly settle: Settle;
}

/** One `ctx.sleep` of the author's code. */
export interface SleepCall {
  readonly step: StepRef;
  readonly when: { readonly durationMs: number } | { readonly until: Date };
  readonly settle: Settle;
}

/** One wait of the author's code for something from outside. */
export interface AwaitedCall {
  readonly step: StepRef;
  readonly kind: StepKind;
  /** What it waits for. */
  readonly awaits: AwaitStepRequest['awaits'];
  /** Undefined: no limit. */
  readonly timeoutMs: number | undefined;
  readonly settle: Settle;
  /** For waits that begin with another call than AwaitStep. */
  readonly begin?: (step: BegunStep) => Promise<BegunAnswer>;
  /** What comes may be plain JSON whatever the codec is. */
  readonly acceptsJson?: boolean;
  /** The wait is recorded, or will not be; not called once the execution has ended. */
  readonly onBegun?: () => void;
}

export interface BegunAnswer extends Pick<AwaitStepResponse, 'attemptNumber' | 'arrival'> {
  readonly remaining?: AwaitStepResponse['remaining'];
}

/** The step that begins, as every call that begins one names it. */
export interface BegunStep {
  readonly stepId: string;
  readonly seq: number;
  readonly attemptNumber: number;
  readonly uncancellable: boolean;
  readonly eventSeq: number;
}

/** What steps and timers need of an execution. */
export interface StepHost extends RecordingHost {
  readonly codec: Codec;
  readonly limit: PayloadLimit;
  readonly failures: FailureLog;
  readonly cancellation: Cancellation;
  readonly reports: BodyReports;
  readonly retryBudget: RetryBudget;
  /** How many steps and timers the code has requested. */
  readonly seq: number;
  /** Leases of the run were lost just before this one: a body may be what kills its workers. */
  readonly isSuspect: boolean;
  /** No attempt begins; the run is given back when what is under way has ended. */
  readonly isPaused: boolean;
  /** @param onResult not called once the execution has ended */
  runBody(body: StepBody, onResult: (result: BodyResult) => void): void;
  /** A guess: nothing else is going on in the run, and its code returns after this result. */
  foretellsEnd(stepId: string, ticket: ResultTicket): boolean;
  /** The code has not returned after a result after which it was foretold to. */
  hasNotEnded(stepId: string): void;
  /** The code is given the result of a body that has ended at once; undefined: of something else. */
  told(stepId: string | undefined): void;
  /** The code has been given a result that will not be recorded: it goes no further, and the run is given back for a replay. */
  rewind(): void;
  /** What has come from outside. */
  readonly arrivals: Arrivals;
  /**
   * @param wait `remainingMs` undefined: no time ends it
   * @returns how it ended, unless something arrived for it
   */
  wait(step: StepRef, wait: StepWait): Promise<WaitEnd>;
}

export type StepWait = Omit<NewWait, 'stepId' | 'uncancellable'> & {
  /** For what comes from outside; see {@link Arrivals.expect}. */
  readonly onArrival: OnArrival;
  /** The cancel request does not end it: something has arrived before. */
  readonly isDecided?: boolean;
};
