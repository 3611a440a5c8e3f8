import { durationOf, FailureReason, type UpdateRunResponse } from '@perdure/proto';
import { v7 as newRequestId } from 'uuid';
import { decodeValue, encodeValue } from '../codec/payload.js';
import { UpdateRefusedError, UpdateTimeoutError } from '../errors/errors.js';
import { errorOf } from '../errors/failure.js';
import { refuseUnknownKeys } from '../options.js';
import { RpcError } from '../rpc/rpc-error.js';
import { validBy } from '../schema.js';
import { type Update, updateOf } from '../update.js';
import type { ClientContext } from './await-result.js';
import { ResultDeadline, type ResultOptions } from './result-deadline.js';
import { DEFAULT_GIVE_UP_MS, retryUntilAnswered } from './retry-until-answered.js';
import { SENDER } from './sender.js';

/** Options of an update. */
export interface SendUpdateOptions extends ResultOptions {
  /**
   * 1 to 255 bytes. A repeat with the same id, also by another process, carries nothing out again and gets the same answer. Default: a fresh
   * one, so that repeats after an outage carry nothing out twice.
   */
  readonly requestId?: string;
  /** Who sends it, for people; at most 255 bytes; default: host and process. */
  readonly sender?: string;
}

/** What follows the update: its input and options; nothing when it carries nothing. */
export type UpdateArguments<Sent> = undefined extends Sent
  ? readonly [input?: Sent, options?: SendUpdateOptions]
  : readonly [input: Sent, options?: SendUpdateOptions];

/** Sends one update and waits for its answer, through outages of the server. It is repeated with one request id. */
export async function sendUpdate(
  context: ClientContext,
  run: { readonly runId: string } | { readonly workflowId: string },
  given: Update | string,
  [value, options = {}]: readonly [input?: unknown, options?: SendUpdateOptions],
): Promise<unknown> {
  const { name, options: definition } = updateOf(given);
  refuseUnknownKeys('An update', options, ['requestId', 'sender', 'timeout', 'signal']);
  const deadline = new ResultDeadline(options);
  deadline.signal?.throwIfAborted();
  const what = `The input of update '${name}'`;
  const payload = encodeValue(context.codec, await validBy(definition.input, value, what), what);
  await context.limit.check(payload, what, { signal: deadline.signal });
  const runId = await runIdOf(context, run);
  const { requestId = newRequestId(), sender = SENDER } = options;
  const request = { runId, name, requestId, sender, ...(payload === undefined ? {} : { payload }) };
  for (;;) {
    const answer = await sendOnce(context, request, deadline);
    if (answer.answered) return outcomeOf(context, name, answer);
    if (deadline.remainingMs <= 0) throw new UpdateTimeoutError(request, deadline.timeoutMs);
  }
}

/** Looked up once: repeats must reach the same run, also when another one of the workflow id is open since. */
async function runIdOf(
  { service, namespace, outage }: ClientContext,
  run: { readonly runId: string } | { readonly workflowId: string },
): Promise<string> {
  if ('runId' in run) return run.runId;
  const answer = await retryUntilAnswered(outage, (options) => service.getRun({ namespace, ...run }, options));
  return answer.run?.runId ?? '';
}

async function sendOnce(
  { service, namespace, outage }: ClientContext,
  request: { readonly runId: string; readonly name: string; readonly requestId: string; readonly sender: string },
  deadline: ResultDeadline,
): Promise<UpdateRunResponse> {
  try {
    return await retryUntilAnswered(
      outage,
      () => {
        const { waitMs, options } = deadline.nextCall();
        return service.updateRun({ ...request, namespace, wait: durationOf(waitMs) }, options);
      },
      { giveUpAfterMs: Math.min(DEFAULT_GIVE_UP_MS, deadline.remainingMs), signal: deadline.signal },
    );
  } catch (error) {
    if (!(error instanceof RpcError) || !error.isTransient || deadline.remainingMs > 0) throw error;
    throw new UpdateTimeoutError(request, deadline.timeoutMs, { cause: error });
  }
}

/** @throws the handler's error, or why the update was refused */
function outcomeOf({ codec }: ClientContext, name: string, { output, failure }: UpdateRunResponse): unknown {
  if (failure === undefined) return decodeValue(codec, output);
  const error = errorOf(codec, failure);
  throw failure.reason === FailureReason.UPDATE_REFUSED ? new UpdateRefusedError(name, error) : error;
}
