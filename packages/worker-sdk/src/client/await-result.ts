import {
  type AdminService,
  type AwaitRunResponse,
  durationOf,
  type Failure,
  RunStatus,
  type WorkflowService,
} from '@perdure/proto';
import type { Codec } from '../codec/codec.js';
import { decodeValue } from '../codec/payload.js';
import type { CompensationReport } from '../errors/compensation-report.js';
import { originIn } from '../errors/error-facts.js';
import {
  AwaitTimeoutError,
  WorkflowCancelledError,
  WorkflowFailedError,
  WorkflowTerminatedError,
} from '../errors/errors.js';
import { errorOf } from '../errors/failure.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { ServiceClient } from '../rpc/service-client.js';
import type { OutageReport } from './outage-report.js';
import type { PayloadLimit } from './payload-limit.js';
import type { ResultDeadline } from './result-deadline.js';
import { retryUntilAnswered } from './retry-until-answered.js';

/** What a client's handles share. */
export interface ClientContext {
  readonly service: ServiceClient<typeof WorkflowService>;
  readonly admin: ServiceClient<typeof AdminService>;
  readonly namespace: string;
  readonly codec: Codec;
  readonly outage: OutageReport;
  readonly limit: PayloadLimit;
}

/** How a run ended, as AwaitRun and ExecuteWorkflow report it. */
export type ReportedEnd = Pick<
  AwaitRunResponse,
  'runId' | 'workflowId' | 'status' | 'output' | 'failure' | 'cancelReason'
>;

/**
 * Waits for a run to end, through outages of the server.
 *
 * @param workflowType for messages; undefined when it is not known
 * @returns what the workflow returned
 * @throws {WorkflowFailedError | WorkflowCancelledError | WorkflowTerminatedError} when it ended otherwise
 * @throws {AwaitTimeoutError} when the deadline passes; the run continues
 * @throws the signal's reason when it is aborted; the run continues
 */
export async function awaitResult(
  context: ClientContext,
  { runId, workflowId }: { readonly runId: string; readonly workflowId: string },
  workflowType: string | undefined,
  deadline: ResultDeadline,
): Promise<unknown> {
  const { codec } = context;
  const run = { runId, workflowId, workflowType };
  for (;;) {
    const answer = await awaitOnce(context, run, deadline);
    if (answer.ended) return outputOf(answer, workflowType, codec);
    if (deadline.remainingMs <= 0) throw new AwaitTimeoutError(run, deadline.timeoutMs);
  }
}

async function awaitOnce(
  { service, namespace, outage }: ClientContext,
  run: { readonly runId: string; readonly workflowId: string; readonly workflowType: string | undefined },
  deadline: ResultDeadline,
): Promise<AwaitRunResponse> {
  try {
    return await retryUntilAnswered(
      outage,
      () => {
        const { waitMs, options } = deadline.nextCall();
        return service.awaitRun({ namespace, runId: run.runId, wait: durationOf(waitMs) }, options);
      },
      { giveUpAfterMs: deadline.remainingMs, signal: deadline.signal },
    );
  } catch (error) {
    if (!(error instanceof RpcError) || !error.isTransient) throw error;
    throw new AwaitTimeoutError(run, deadline.timeoutMs, { cause: error });
  }
}

function compensationOf(codec: Codec, { compensation }: Failure): CompensationReport | undefined {
  if (compensation === undefined) return undefined;
  const { compensated, failed } = compensation;
  return {
    status: failed.length === 0 ? 'COMPLETE' : 'PARTIAL',
    compensated,
    failed: failed.map(({ stepId, failure }) => ({
      stepId,
      error: failure === undefined ? new Error('The error was not recorded.') : errorOf(codec, failure),
    })),
  };
}

/** @throws the error that the run ended with */
export function outputOf(end: ReportedEnd, workflowType: string | undefined, codec: Codec): unknown {
  const run = { runId: end.runId, workflowId: end.workflowId, workflowType };
  switch (end.status) {
    case RunStatus.COMPLETED:
      return decodeValue(codec, end.output);
    case RunStatus.CANCELLED:
      throw new WorkflowCancelledError(run, end.cancelReason);
    case RunStatus.TERMINATED:
      throw new WorkflowTerminatedError(run, end.failure?.message ?? end.cancelReason);
    default:
      throw end.failure === undefined
        ? new WorkflowFailedError(run, new Error(`It is ${RunStatus[end.status]}.`))
        : new WorkflowFailedError(
            run,
            errorOf(
              codec,
              end.failure,
              originIn({ runId: end.runId, workflowType: workflowType ?? '' }, end.failure.stepId),
            ),
            end.failure.stepId,
            compensationOf(codec, end.failure),
          );
  }
}
