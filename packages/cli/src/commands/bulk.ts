/** Starts bulk operations: one action on all runs that match a filter. */
import { createInterface } from 'node:readline/promises';
import { BulkKind, type Payload, type WorkflowRun } from '@perdure/proto';
import { devalueCodec } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import { v7 as newUuid } from 'uuid';
import { CliError, EXIT } from '../exit-codes.js';
import { bulkJson } from '../output/bulk-view.js';
import { hint, isTable, printList, printOne, write } from '../output/print.js';
import { runJson, runListView } from '../output/run-view.js';
import { count } from '../output/text.js';
import { type Session, withSession } from '../session.js';
import { integerArgument, parseJson } from './arguments.js';
import { addBulkControl } from './bulk-control.js';
import { watchBulk } from './bulk-watch.js';
import { addRunFilters, filterFields, hasFilter, type RunFilterOptions } from './run-filters.js';
import { sender } from './run-messages.js';

interface BulkOptions extends RunFilterOptions {
  readonly all?: boolean;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
  readonly detach?: boolean;
  readonly reason: string;
  readonly rate?: number;
  readonly requestId?: string;
}

interface Action {
  readonly kind: BulkKind;
  readonly command: string;
  readonly description: string;
}

const actions: readonly Action[] = [
  { kind: BulkKind.CANCEL, command: 'cancel', description: 'request that open runs end; their code may clean up' },
  { kind: BulkKind.TERMINATE, command: 'terminate', description: 'end open runs immediately' },
  // `bulk pause` and `bulk resume` are about an operation.
  { kind: BulkKind.PAUSE, command: 'pause-runs', description: 'stop open runs before their next step' },
  { kind: BulkKind.RESUME, command: 'resume-runs', description: 'let paused runs continue' },
  { kind: BulkKind.RETRY, command: 'retry', description: 'continue failed runs; without --status: dead letters' },
  { kind: BulkKind.DISMISS, command: 'dismiss', description: 'take failed runs from the dead letters' },
  { kind: BulkKind.DELETE, command: 'delete', description: 'permanently delete ended runs' },
];

export function addBulkCommands(program: Command): void {
  const bulk = program.command('bulk').description('act on all runs that match a filter, in the background');
  for (const { kind, command, description } of actions) {
    addOptions(bulk.command(command))
      .description(description)
      .action((options: BulkOptions, invoked: Command) =>
        withSession(invoked, (session) => startBulk(session, kind, command, options, {})),
      );
  }
  addOptions(bulk.command('signal <name> [payload]'))
    .description('send a signal to open runs, with a payload as JSON')
    .action((name: string, payload: string | undefined, options: BulkOptions, invoked: Command) =>
      withSession(invoked, (session) =>
        startBulk(session, BulkKind.SIGNAL, 'signal', options, { signalName: name, ...payloadFields(payload) }),
      ),
    );
  addBulkControl(bulk);
}

function addOptions(command: Command): Command {
  return addRunFilters(command)
    .option('--all', 'all runs that the action is for, without a filter')
    .option('--dry-run', 'only say how many runs match, and show some')
    .option('-y, --yes', 'do not ask')
    .option('--detach', 'do not wait for the end')
    .option('-r, --reason <text>', 'recorded with the operation, and with each run', '')
    .option('--rate <n>', 'at most n runs per second, 1 to 10,000; default 500', integerArgument)
    .option('--request-id <id>', 'a repeat with the same id starts nothing');
}

function payloadFields(text: string | undefined): { signalPayload?: Payload } {
  if (text === undefined) return {};
  return { signalPayload: devalueCodec.encode(parseJson(text, 'The payload')) as Payload };
}

async function startBulk(
  session: Session,
  kind: BulkKind,
  command: string,
  options: BulkOptions,
  signal: { readonly signalName?: string; readonly signalPayload?: Payload },
): Promise<void> {
  if (!hasFilter(options) && options.all !== true) {
    throw new CliError('Give a filter, or --all for all runs that the action is for.', EXIT.usage);
  }
  const request = {
    namespace: session.namespace,
    kind,
    filter: filterFields(options),
    reason: options.reason,
    actor: sender(),
    requestId: options.requestId ?? newUuid(),
    rate: rateOf(options.rate),
    ...signal,
  };
  const preview = await session.workflows.startBulkOperation({ ...request, dryRun: true });
  const matched = `${preview.matchedIsExact ? '' : 'more than '}${count(preview.matched, 'run')}`;
  if (options.dryRun === true) {
    showPreview(session, preview, matched);
    return;
  }
  if (options.yes !== true) await confirm(session, preview, command, matched);
  const { operation } = await session.workflows.startBulkOperation(request);
  if (operation === undefined) throw new Error('The server answered without an operation.');
  const { operationId } = operation;
  if (options.detach === true) {
    const text = `${operationId} started on ${matched}. Its progress: perdure bulk watch ${operationId}`;
    printOne(session.output, { id: operationId, json: bulkJson(operation), text });
    return;
  }
  hint(
    `Started ${operationId} on ${matched}. It continues without this command; perdure bulk abort ${operationId} ends it.`,
  );
  await watchBulk(session, operationId);
}

/** 0 means the server's default, so it must not come from the command line. */
function rateOf(rate: number | undefined): number {
  if (rate !== undefined && (rate < 1 || rate > 10_000)) {
    throw new CliError('--rate must be between 1 and 10,000 runs per second.', EXIT.usage);
  }
  return rate ?? 0;
}

interface Preview {
  readonly matched: number;
  readonly matchedIsExact: boolean;
  readonly sample: readonly WorkflowRun[];
}

function showPreview({ output }: Session, { matched, matchedIsExact, sample }: Preview, text: string): void {
  if (isTable(output) || output === 'ids') {
    printList(output, sample, runListView);
    hint(matched > sample.length ? `The oldest ${sample.length} of ${text} that match.` : `${text} match.`);
  } else printOne(output, { id: '', json: { matched, matchedIsExact, sample: sample.map(runJson) }, text: '' });
}

async function confirm(session: Session, preview: Preview, command: string, matched: string): Promise<void> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new CliError(`${matched} match. Add --yes to act on them, or --dry-run to see some.`, EXIT.usage);
  }
  showPreview(session, preview, matched);
  const line = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const answer = await line.question(`${command} ${matched}? [y/N] `);
    if (!/^y(es)?$/i.test(answer.trim())) {
      write('Nothing was done.');
      throw new CliError('Not confirmed.', EXIT.interrupted);
    }
  } finally {
    line.close();
  }
}
