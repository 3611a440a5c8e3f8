import { type DurablePromise, FailureReason, PromiseState } from '@perdure/proto';
import { devalueCodec } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import { CliError, EXIT } from '../exit-codes.js';
import { failureChain, failureJson, failureText } from '../output/failures.js';
import { payloadJson, payloadText } from '../output/payloads.js';
import { fieldsText, hint, type ListView, printList, printOne } from '../output/print.js';
import { safe } from '../output/text.js';
import { timeJson, timeText } from '../output/time.js';
import { runIdOf, type Session, withSession } from '../session.js';
import { countArgument, FULL_STACK, parseJson } from './arguments.js';

const promiseView: ListView<DurablePromise> = {
  columns: [
    { title: 'PROMISE', value: (promise) => promise.promiseId },
    { title: 'NAME', min: 12, value: (promise) => safe(promise.stepId) },
    { title: 'STATE', value: (promise) => PromiseState[promise.state] ?? '' },
    { title: 'CREATED', dispensable: 2, value: (promise) => timeText(promise.createdAt) },
    { title: 'TIMES OUT', dispensable: 1, value: (promise) => timeText(promise.timesOutAt) },
    { title: 'WORKFLOW ID', min: 12, value: (promise) => safe(promise.workflowId) },
    { title: 'RUN', wide: true, value: (promise) => promise.runId },
    { title: 'ERROR', min: 20, value: (promise) => failureChain(promise.failure) },
  ],
  id: (promise) => promise.promiseId,
  json: promiseJson,
  empty: 'No promise waits to be settled.',
};

function promiseJson(promise: DurablePromise): unknown {
  return {
    promiseId: promise.promiseId,
    state: PromiseState[promise.state],
    runId: promise.runId,
    workflowId: promise.workflowId,
    stepId: promise.stepId,
    createdAt: timeJson(promise.createdAt),
    timesOutAt: timeJson(promise.timesOutAt),
    settledAt: timeJson(promise.settledAt),
    ...(promise.value === undefined ? {} : { value: payloadJson(promise.value) }),
    ...(promise.failure === undefined ? {} : { failure: failureJson(promise.failure) }),
  };
}

interface ListOptions {
  readonly run?: string;
  readonly limit: number;
  readonly cursor?: string;
}

export function addPromiseCommands(program: Command): void {
  const promise = program.command('promise').description('settle, show and list promises of runs');
  promise
    .command('resolve <id> [value]')
    .description('resolve a promise; the value is JSON')
    .action((promiseId: string, value: string | undefined, _: unknown, command: Command) =>
      withSession(command, async (session) => {
        const payload = value === undefined ? {} : { value: devalueCodec.encode(parseJson(value, 'The value')) };
        const { namespace, workflows } = session;
        const settled = await workflows.resolvePromise({ namespace, promiseId, ...payload });
        printSettled(session, promiseId, settled, PromiseState.RESOLVED);
      }),
    );
  promise
    .command('reject <id> <message>')
    .description('reject a promise: the code of its run sees an error')
    .option('--type <name>', 'name of the error', 'Error')
    .option('--code <code>', 'code of the error', '')
    .action((promiseId: string, message: string, { type, code }: { type: string; code: string }, command: Command) =>
      withSession(command, async (session) => {
        const { namespace, workflows } = session;
        const failure = { type, message, code, reason: FailureReason.APPLICATION };
        const settled = await workflows.rejectPromise({ namespace, promiseId, failure });
        printSettled(session, promiseId, settled, PromiseState.REJECTED);
      }),
    );
  promise
    .command('show <id>')
    .description('show a promise')
    .option(...FULL_STACK)
    .action((promiseId: string, options: { fullStack?: boolean }, command: Command) =>
      withSession(command, async (session) => {
        const found = await session.workflows.getPromise({ namespace: session.namespace, promiseId });
        const shown = found.promise as DurablePromise;
        const text = fieldsText([
          ['promise', shown.promiseId],
          ['name', safe(shown.stepId)],
          ['state', PromiseState[shown.state]],
          ['run', shown.runId],
          ['workflow id', safe(shown.workflowId)],
          ['created', timeText(shown.createdAt)],
          ['times out', timeText(shown.timesOutAt)],
          ['settled', timeText(shown.settledAt)],
          ['value', payloadText(shown.value)],
          ['error', failureText(shown.failure, options.fullStack === true)],
        ]);
        printOne(session.output, { id: promiseId, json: promiseJson(shown), text });
      }),
    );
  promise
    .command('list')
    .description('list pending promises, those of the newest runs first; with --run all promises of a run')
    .option('--run <id>', 'run id or workflow id')
    .option('-n, --limit <n>', 'list at most n promises', countArgument, 50)
    .option('--cursor <cursor>', 'continue after an earlier list with the same filters')
    .action((options: ListOptions, command: Command) =>
      withSession(command, async (session) => {
        const { promises, nextPageToken } = await session.workflows.listPromises({
          namespace: session.namespace,
          runId: options.run === undefined ? '' : await runIdOf(session, options.run),
          pageSize: options.limit,
          pageToken: options.cursor ?? '',
        });
        printList(session.output, promises, promiseView);
        if (nextPageToken !== '') hint(`There are more promises. Next page: --cursor ${nextPageToken}`);
      }),
    );
}

/** A repeat is no error; a promise that was settled in another way is. */
function printSettled(
  session: Session,
  id: string,
  { alreadySettled, state }: { readonly alreadySettled: boolean; readonly state: PromiseState },
  wanted: PromiseState,
): void {
  const text = alreadySettled
    ? `${id} was ${PromiseState[state]} before; nothing was changed`
    : `${id} ${PromiseState[state]}`;
  printOne(session.output, { id, json: { promiseId: id, state: PromiseState[state], alreadySettled }, text });
  if (state !== wanted) throw new CliError(`Promise ${id} is ${PromiseState[state]}.`, EXIT.refused);
}
