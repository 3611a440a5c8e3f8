import { durationOf } from '@perdure/proto';
import type { Codec } from '../../codec/codec.js';
import { encodeValue } from '../../codec/payload.js';
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

export interface RunEndingOptions {
  readonly workflow: Workflow;
  /** Run-level retries so far. */
  readonly retries: number;
  readonly cancelRequested: boolean;
  /** Timers or other waits of abandoned branches are open. */
  readonly hasWaits: boolean;
}

/** Records how the code of a run ended: COMPLETED, FAILED, CANCELLED, CONTINUED, or another attempt of the run. */
export async function endRun(host: EndingHost, outcome: CodeOutcome, options: RunEndingOptions): Promise<ExecutionEnd> {
  if (!outcome.ok) return fail(host, outcome.error, options);
  if (outcome.continuation !== undefined) {
    const hasOpenSteps = options.hasWaits || host.work.count > 0;
    await host.calls.call('continueWorkflow', { ...outcome.continuation, hasOpenSteps });
    return 'continued';
  }
  let output: ReturnType<typeof encodeValue>;
  try {
    const what = `The output of workflow '${options.workflow.name}'`;
    output = encodeValue(host.codec, outcome.value, what);
    host.limit.check(output, what);
  } catch (error) {
    return fail(host, error, options);
  }
  const last = host.unrecorded.takeLast();
  const hasOpenSteps = options.hasWaits || host.work.count > (last === undefined ? 0 : 1);
  const end = { ...(output === undefined ? {} : { output }), hasOpenSteps };
  if (last === undefined) await host.calls.call('completeWorkflow', end);
  else await endWith(host, last, end);
  return 'completed';
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

async function fail(host: EndingHost, error: unknown, options: RunEndingOptions): Promise<ExecutionEnd> {
  if (options.cancelRequested && isCancel(error)) {
    await host.calls.call('confirmCancel', cutAtEnd(host, error));
    return 'cancelled';
  }
  const failure = failureOf(host.codec, error);
  failure.stepId = host.failures.stepOf(error) ?? '';
  const { workflow, retries } = options;
  const decision = decide(resolveRetry(workflow.options.retry, 1), error, retries + 1);
  if (decision.retry && !options.cancelRequested) {
    const cut = host.failures.cutFor(error);
    await host.calls.call('failWorkflow', {
      failure,
      retryAfter: durationOf(decision.delayMs),
      ...(cut === undefined ? {} : { cut }),
    });
    return 'retrying';
  }
  await host.calls.call('failWorkflow', { failure, ...cutAtEnd(host, error) });
  return 'failed';
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
