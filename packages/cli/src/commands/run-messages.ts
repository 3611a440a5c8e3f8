/** Sends signals and updates to runs, and shows their state. */
import { hostname, userInfo } from 'node:os';
import { FailureReason, type UpdateRunResponse } from '@perdure/proto';
import { devalueCodec } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import pc from 'picocolors';
import { v7 as newUuid } from 'uuid';
import { CliError, EXIT } from '../exit-codes.js';
import { failureText } from '../output/failures.js';
import { payloadJson, payloadText } from '../output/payloads.js';
import { printOne } from '../output/print.js';
import { timeText } from '../output/time.js';
import { runIdOf, type Session, withRun, withSession } from '../session.js';
import { FULL_STACK, parseJson } from './arguments.js';

interface SendOptions {
  readonly requestId?: string;
  readonly fullStack?: boolean;
}

const REQUEST_ID = ['--request-id <id>', 'a repeat with the same id sends nothing'] as const;

export function addMessages(run: Command): void {
  run
    .command('signal <id> <name> [payload]')
    .description('send a signal, with a payload as JSON')
    .option(...REQUEST_ID)
    .action((id: string, name: string, payload: string | undefined, options: SendOptions, command: Command) =>
      withSession(command, async (session) => {
        const message = { name, requestId: options.requestId ?? newUuid(), sender: sender(), ...payloadOf(payload) };
        const sent = await withRun(session, id, (ref) => session.workflows.signalRun({ ...ref, ...message }));
        const { runId, seq, alreadySent } = sent;
        const text = alreadySent
          ? `The signal was sent before, with the same request id, as signal ${seq} of run ${pc.bold(runId)}.`
          : `Sent '${name}' to run ${pc.bold(runId)}, as its signal ${seq}.`;
        printOne(session.output, { id: runId, json: { runId, seq, alreadySent }, text });
      }),
    );

  run
    .command('update <id> <name> [payload]')
    .description('send an update, with a payload as JSON, and print the answer')
    .option(...REQUEST_ID)
    .option(...FULL_STACK)
    .action((id: string, name: string, payload: string | undefined, options: SendOptions, command: Command) =>
      withSession(command, async (session) => {
        const answer = await update(session, {
          // Looked up once: a repeat must reach the same run.
          runId: await runIdOf(session, id),
          name,
          requestId: options.requestId ?? newUuid(),
          sender: sender(),
          ...payloadOf(payload),
        });
        showAnswer(session, name, answer, options.fullStack === true);
      }),
    );

  run
    .command('state <id>')
    .description('show the state that the code of a run has set last')
    .action((id: string, _: object, command: Command) =>
      withSession(command, async (session) => {
        const { runId, state, updatedAt } = await withRun(session, id, (ref) => session.workflows.getRunState(ref));
        const text = payloadText(state) ?? pc.dim('(no state)');
        const json = { runId, state: payloadJson(state) ?? null, updatedAt: timeText(updatedAt) || null };
        printOne(session.output, { id: runId, json, text });
      }),
    );
}

type Update = Parameters<Session['workflows']['updateRun']>[0];

async function update({ namespace, workflows }: Session, request: Update): Promise<UpdateRunResponse> {
  for (;;) {
    const answer = await workflows.updateRun({ ...request, namespace });
    if (answer.answered) return answer;
  }
}

function showAnswer(session: Session, name: string, answer: UpdateRunResponse, fullStack: boolean): void {
  const { runId, seq, output, failure } = answer;
  if (failure !== undefined) {
    const what = failure.reason === FailureReason.UPDATE_REFUSED ? 'refused' : 'failed';
    throw new CliError(`Update '${name}' was ${what}. ${failureText(failure, fullStack) ?? ''}`, EXIT.failed);
  }
  const text = payloadText(output) ?? pc.dim('(no answer)');
  printOne(session.output, { id: runId, json: { runId, seq, output: payloadJson(output) ?? null }, text });
}

/** Who uses the command line, for the history of the run. */
export function sender(): string {
  let user = '';
  try {
    user = userInfo().username;
  } catch {
    // A user without a name, in a container.
  }
  return `${user}@${hostname()}`.slice(0, 80);
}

function payloadOf(text: string | undefined) {
  return text === undefined ? {} : { payload: devalueCodec.encode(parseJson(text, 'The payload')) };
}
