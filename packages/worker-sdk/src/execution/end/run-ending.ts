import { durationOf } from '@perdure/proto';
import type { Codec } from '../../codec/codec.js';
import { encodeValue } from '../../codec/payload.js';
import { CancelledError } from '../../errors/errors.js';
import { failureOf } from '../../errors/failure.js';
import { resolveRetry } from '../../retry.js';
import type { Workflow } from '../../workflow.js';
import type { ExecutionEnd } from '../lease/lease-tenure.js';
import type { LeasedCalls } from '../lease/leased-calls.js';
import type { FailureLog } from '../order/failure-log.js';
import type { PayloadLimit } from '../run/payload-limit.js';
import type { RunFacts } from '../run/run-facts.js';
import { decide } from '../step/next-attempt.js';
import type { CodeOutcome } from './run-code.js';

/** What recording the end needs of an execution. */
export interface EndingHost {
  readonly facts: RunFacts;
  readonly calls: LeasedCalls;
  readonly codec: Codec;
  readonly limit: PayloadLimit;
  readonly failures: FailureLog;
}

export interface RunEndingOptions {
  readonly workflow: Workflow;
  /** Run-level retries so far. */
  readonly retries: number;
  readonly cancelRequested: boolean;
  /** Attempts or timers of abandoned branches may be open. */
  readonly hasOpenSteps: boolean;
}

/** Records how the code of a run ended: COMPLETED, FAILED, CANCELLED, or another attempt of the run. */
export async function endRun(host: EndingHost, outcome: CodeOutcome, options: RunEndingOptions): Promise<ExecutionEnd> {
  if (!outcome.ok) return fail(host, outcome.error, options);
  let output: ReturnType<typeof encodeValue>;
  try {
    const what = `The output of workflow '${options.workflow.name}'`;
    output = encodeValue(host.codec, outcome.value, what);
    host.limit.check(output, what);
  } catch (error) {
    return fail(host, error, options);
  }
  await host.calls.call('completeWorkflow', {
    ...(output === undefined ? {} : { output }),
    hasOpenSteps: options.hasOpenSteps,
  });
  return 'completed';
}

async function fail(host: EndingHost, error: unknown, options: RunEndingOptions): Promise<ExecutionEnd> {
  if (options.cancelRequested && isCancel(error)) {
    await host.calls.call('confirmCancel', {});
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
  await host.calls.call('failWorkflow', { failure });
  return 'failed';
}

function isCancel(error: unknown): boolean {
  let candidate = error;
  for (let depth = 0; candidate instanceof Error && depth < 16; depth++) {
    if (candidate instanceof CancelledError) return true;
    candidate = candidate.cause;
  }
  return false;
}
