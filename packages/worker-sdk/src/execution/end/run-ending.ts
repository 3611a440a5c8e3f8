import { type CompensationReport, durationOf, type Failure } from '@perdure/proto';
import type { Codec } from '../../codec/codec.js';
import { encodeValue } from '../../codec/payload.js';
import { originIn } from '../../errors/error-facts.js';
import { CancelledError } from '../../errors/errors.js';
import { failureOf } from '../../errors/failure.js';
import { resolveRetry } from '../../retry.js';
import type { Workflow } from '../../workflow.js';
import type { ExecutionEnd } from '../lease/lease-tenure.js';
import { ExecutionEnded, type LeasedCalls } from '../lease/leased-calls.js';
import type { RequestOf } from '../lease/leased-method.js';
import type { FailureLog } from '../order/failure-log.js';
import type { Unrecorded, UnsentResult } from '../order/unrecorded.js';
import type { PayloadLimit } from '../run/payload-limit.js';
import type { RunFacts } from '../run/run-facts.js';
import type { WorkCount } from '../run/work-count.js';
import { decide } from '../step/next-attempt.js';
import type { CodeOutcome } from './run-code.js';

/** What recording the end needs of an execution. */
export interface EndingHost {
  readonly facts: RunFacts;
  readonly calls: LeasedCalls;
  readonly codec: Codec;
  readonly limit: PayloadLimit;
  readonly failures: FailureLog;
  readonly unrecorded: Unrecorded;
  readonly work: WorkCount;
  /** Undoes the beginning of the end, which was refused. */
  undoFinish(): void;
}

export interface EndingFacts {
  readonly workflow: Workflow;
  /** Run-level retries so far. */
  readonly retries: number;
  readonly cancelRequested: boolean;
  /** The compensations of the run have begun under an earlier lease. */
  readonly isCompensating: boolean;
  /** Place in program order of the latest compensation; 0: there was none. */
  readonly lastCompensation: number;
}

/** What is to be recorded as the end of a run, or of its attempt. */
export type Ending =
  | {
      readonly kind: 'continue';
      readonly continuation: NonNullable<Extract<CodeOutcome, { ok: true }>['continuation']>;
    }
  | { readonly kind: 'complete'; readonly output: ReturnType<typeof encodeValue> }
  | {
      readonly kind: 'retry';
      readonly error: unknown;
      readonly delayMs: number;
      readonly cut: ReturnType<FailureLog['cutFor']>;
    }
  | { readonly kind: 'fail' | 'cancel'; readonly error: unknown };

/** How the run ends, as its code has ended. */
export function endingOf(host: EndingHost, outcome: CodeOutcome, facts: EndingFacts): Ending {
  if (!outcome.ok) return failing(host, outcome.error, facts);
  if (outcome.continuation !== undefined) return { kind: 'continue', continuation: outcome.continuation };
  try {
    const what = `The output of workflow '${facts.workflow.name}'`;
    const output = encodeValue(host.codec, outcome.value, what);
    host.limit.check(output, what);
    return { kind: 'complete', output };
  } catch (error) {
    return failing(host, error, facts);
  }
}

function failing(host: EndingHost, error: unknown, facts: EndingFacts): Ending {
  if (facts.cancelRequested && isCancel(error)) return { kind: 'cancel', error };
  const { workflow, retries } = facts;
  const decision = decide(resolveRetry(workflow.options.retry, 1), error, retries + 1);
  if (!decision.retry || facts.cancelRequested || facts.isCompensating) return { kind: 'fail', error };
  const cut = host.failures.cutFor(error);
  // The steps before are kept, but some of what they have done is undone: the next attempt would rely on it.
  if (cut !== undefined && facts.lastCompensation > (cut.seq ?? 0)) return { kind: 'fail', error };
  return { kind: 'retry', error, delayMs: decision.delayMs, cut };
}

export interface RecordOptions {
  /** The counted attempt of the run, from 1. */
  readonly attempt: number;
  readonly maxAttempts: number;
  /** Timers or other waits of abandoned branches are open. */
  readonly hasWaits: boolean;
  /** Undefined: there was nothing to compensate. */
  readonly compensation: CompensationReport | undefined;
}

/** Records how a run ended: COMPLETED, FAILED, CANCELLED, or another attempt of the run. */
export async function endRun(host: EndingHost, ending: Ending, options: RecordOptions): Promise<ExecutionEnd> {
  switch (ending.kind) {
    case 'complete': {
      const last = host.unrecorded.takeLast();
      const hasOpenSteps = options.hasWaits || host.work.count > (last === undefined ? 0 : 1);
      const end = { ...(ending.output === undefined ? {} : { output: ending.output }), hasOpenSteps };
      if (last === undefined) await host.calls.call('completeWorkflow', end);
      else await endWith(host, last, end);
      return 'completed';
    }
    case 'continue': {
      const hasOpenSteps = options.hasWaits || host.work.count > 0;
      await host.calls.call('continueWorkflow', { ...ending.continuation, hasOpenSteps });
      return 'continued';
    }
    case 'cancel':
      await host.calls.call('confirmCancel', cutAtEnd(host, ending.error));
      return 'cancelled';
    case 'retry': {
      const { cut, delayMs } = ending;
      const retryAfter = durationOf(delayMs);
      const failure = runFailure(host, ending.error, options);
      await host.calls.call('failWorkflow', { failure, retryAfter, ...(cut === undefined ? {} : { cut }) });
      return 'retrying';
    }
    case 'fail': {
      const failure = runFailure(host, ending.error, options);
      if (options.compensation !== undefined) failure.compensation = options.compensation;
      await host.calls.call('failWorkflow', { failure, ...cutAtEnd(host, ending.error) });
      return 'failed';
    }
  }
}

function runFailure(host: EndingHost, error: unknown, { attempt, maxAttempts }: RecordOptions): Failure {
  const failure = failureOf(host.codec, error, originIn(host.facts.run, '', attempt, maxAttempts));
  failure.stepId = host.failures.stepOf(error) ?? '';
  return failure;
}

/** Records the last result and the end as one. When the result is refused, the run has not ended either. */
async function endWith(host: EndingHost, last: UnsentResult, end: RequestOf<'completeWorkflow'>): Promise<void> {
  try {
    await host.calls.call('completeWorkflow', { ...end, finalStep: last.request }, { isResult: true });
  } catch (error) {
    if (error instanceof ExecutionEnded) throw error;
    host.undoFinish();
    last.onRefusedWithEnd(error);
    throw new ExecutionEnded();
  }
  last.onRecordedWithEnd();
}

/** Recorded with the end, for a retry of the ended run. */
function cutAtEnd({ failures }: EndingHost, error: unknown) {
  const cut = failures.cutAtEnd(error);
  return cut === undefined ? {} : { cut };
}

function isCancel(error: unknown): boolean {
  let candidate = error;
  for (let depth = 0; candidate instanceof Error && depth < 16; depth++) {
    if (candidate instanceof CancelledError) return true;
    candidate = candidate.cause;
  }
  return false;
}
