import { encodeValue } from '../codec/payload.js';
import { CancelledError } from '../errors/errors.js';
import { failureOf } from '../errors/failure.js';
import { decideRetry, type RetryDecision, resolveRetry } from '../retry.js';
import { durationMessage } from '../rpc/time.js';
import type { Workflow } from '../workflow.js';
import { blamedSteps } from './blame.js';
import type { ExecutionEnd } from './holding.js';
import type { CodeOutcome } from './run-code.js';
import type { RunExecution } from './run-execution.js';

export interface RunEndingOptions {
  readonly workflow: Workflow;
  /** Run-level retries so far. */
  readonly retries: number;
  readonly cancelRequested: boolean;
  /** Attempts or timers of abandoned branches may be open. */
  readonly hasOpenSteps: boolean;
}

/** Records how the code of a run ended: COMPLETED, FAILED, CANCELLED, or another attempt of the run. */
export async function endRun(
  execution: RunExecution,
  outcome: CodeOutcome,
  options: RunEndingOptions,
): Promise<ExecutionEnd> {
  if (!outcome.ok) return fail(execution, outcome.error, options);
  let output: ReturnType<typeof encodeValue>;
  try {
    output = encodeValue(execution.codec, outcome.value);
    execution.checkSize(output, 'The output of the run');
  } catch (error) {
    return fail(execution, error, options);
  }
  await execution.calls.call('completeWorkflow', {
    ...(output === undefined ? {} : { output }),
    hasOpenSteps: options.hasOpenSteps,
  });
  return 'completed';
}

async function fail(execution: RunExecution, error: unknown, options: RunEndingOptions): Promise<ExecutionEnd> {
  if (options.cancelRequested && isCancel(error)) {
    await execution.calls.call('confirmCancel', {});
    return 'cancelled';
  }
  const failure = failureOf(execution.codec, error);
  const decision = decide(options, error);
  if (decision.retry && !options.cancelRequested) {
    await execution.calls.call('failWorkflow', {
      failure,
      retryAfter: durationMessage(decision.delayMs),
      reopenStepIds: blamedSteps(error),
    });
    return 'retrying';
  }
  await execution.calls.call('failWorkflow', { failure });
  return 'failed';
}

/** An author's matcher that throws must not wedge the failure path. */
function decide({ workflow, retries }: RunEndingOptions, error: unknown): RetryDecision {
  const failed = { error, tryNumber: retries + 1, random: Math.random(), nowMs: Date.now() };
  try {
    return decideRetry(resolveRetry(workflow.options.retry, 1), failed);
  } catch {
    // What it threw is worth less to people than the error that it was asked about.
    return { retry: false, why: 'non_retryable' };
  }
}

function isCancel(error: unknown): boolean {
  let candidate = error;
  for (let depth = 0; candidate instanceof Error && depth < 16; depth++) {
    if (candidate instanceof CancelledError) return true;
    candidate = candidate.cause;
  }
  return false;
}
