import type { MessageInitShape } from '@bufbuild/protobuf';
import { ErrorReason, type UpdateRunRequest, type UpdateRunResponseSchema } from '@perdure/proto';
import { chainEnd, type FoundUpdate, type SendUpdate, type SendUpdateOutcome, type UpdateAnswer } from '@perdure/store';
import type { Call } from '../call/handlers.js';
import { RpcError } from '../call/rpc-error.js';
import type { ServerContext } from '../context.js';
import { decode } from '../rpc/decode/decode.js';
import { decodeUpdateRun } from '../rpc/decode/update-requests.js';
import { updateAnswerFields } from '../rpc/encode/model.js';
import { runClosed, runNotFound, tooManyUpdates } from '../rpc/outcomes.js';
import { runIdOf } from './find-run.js';

type Answer = MessageInitShape<typeof UpdateRunResponseSchema>;

/**
 * Sends an update and waits for its answer, or for the end of the run, which leaves it without one. Subscribes first and sends then, so
 * neither is missed; when a notification is lost, the fallback reads of the waiters find it.
 */
export async function updateRun(context: ServerContext, request: UpdateRunRequest, call: Call): Promise<Answer> {
  const { ref, waitMs, ...sent } = decode(context, (check) => decodeUpdateRun(check, request));
  const untilMs = performance.now() + waitMs;
  const { namespace } = ref;
  const maxUnanswered = context.config.maxUnconsumedSignals;
  for (let runId = await runIdOf(context, ref); ; ) {
    const update: SendUpdate = { ...sent, namespace, runId, maxUnanswered };
    try {
      return await updateOne(context, update, Math.max(0, untilMs - performance.now()), call);
    } catch (error) {
      // The update has moved to the successor, or is sent to it.
      if (!isContinued(error)) throw error;
      const next = await chainEnd(context.db, runId);
      if (next === null) throw error;
      runId = next;
    }
  }
}

function isContinued(error: unknown): boolean {
  return error instanceof RpcError && error.reason === ErrorReason.RUN_CLOSED && error.metadata.status === 'CONTINUED';
}

async function updateOne(context: ServerContext, update: SendUpdate, waitMs: number, call: Call): Promise<Answer> {
  const { answerWaiters, endWaiters } = context;
  const { runId } = update;
  let wake: (answer?: UpdateAnswer) => void = () => undefined;
  const told = new Promise<UpdateAnswer | undefined>((resolve) => {
    wake = resolve;
  });
  const subscriptions = [answerWaiters.subscribe(update, wake), endWaiters.subscribe(runId, () => wake())];
  const timer = setTimeout(wake, waitMs);
  call.onAbort(() => wake());
  try {
    const seq = await send(context, update);
    if (typeof seq !== 'number') return seq;
    const answer = await told;
    return answer === undefined ? await look(context, update) : { runId, seq, ...answered(answer) };
  } finally {
    clearTimeout(timer);
    for (const subscription of subscriptions) subscription.cancel();
  }
}

/** @returns the number of the update; or its answer, when a repeat finds one */
async function send(context: ServerContext, update: SendUpdate): Promise<number | Answer> {
  const outcome = await context.commands.sendUpdate(update);
  if (outcome.kind === 'sent') return outcome.seq;
  if (outcome.kind !== 'already_sent') throw refusalOf(update, outcome);
  const found = await look(context, update);
  return found.answered === true || found.seq === undefined ? found : found.seq;
}

/** @throws {RpcError} RUN_CLOSED when the run has ended without an answer */
async function look({ commands }: ServerContext, update: SendUpdate): Promise<Answer> {
  const { runId } = update;
  const found: FoundUpdate | null = await commands.findAnswer(update);
  if (found === null) throw runNotFound(runId);
  if (found.answer !== null) return { runId, seq: found.seq, ...answered(found.answer) };
  if (found.hasEnded) throw runClosed(runId, found.status);
  return { runId, seq: found.seq };
}

function refusalOf(
  { runId }: SendUpdate,
  outcome: Exclude<SendUpdateOutcome, { readonly kind: 'sent' | 'already_sent' }>,
): RpcError {
  switch (outcome.kind) {
    case 'run_closed':
      return runClosed(runId, outcome.status);
    case 'too_many_updates':
      return tooManyUpdates(runId, outcome.max);
    case 'run_not_found':
      return runNotFound(runId);
  }
}

const answered = (answer: UpdateAnswer) => ({ answered: true, ...updateAnswerFields(answer) });
