import { readFileSync } from 'node:fs';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { DurationSchema, Timestamp } from '@bufbuild/protobuf/wkt';
import { RunStatus, type StepAttempt, WaitReason, type WorkflowRun } from '@perdure/proto';
import { devalueCodec, RpcError } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import pc from 'picocolors';
import { v7 as newUuid } from 'uuid';
import { CliError, EXIT } from '../exit-codes.js';
import { printList, printOne, safe, write } from '../output/print.js';
import { runJson, runListView, runText } from '../output/run-view.js';
import { stepJson, stepListView } from '../output/step-view.js';
import {
  failureText,
  payloadJson,
  payloadText,
  runStatusText,
  spanText,
  stepStatusText,
  timeText,
} from '../output/values.js';
import { runIdOf, type Session, withRun, withSession } from '../session.js';
import { collect, durationArgument, integerArgument, timeArgument } from './arguments.js';
import { idsOf } from './ids.js';
import { repeatedly, watchable } from './repeat.js';

type DurationInit = MessageInitShape<typeof DurationSchema>;

interface StartOptions {
  readonly taskQueue: string;
  readonly input?: string;
  readonly inputFile?: string;
  readonly workflowId?: string;
  readonly requestId?: string;
  readonly priority?: number;
  readonly build?: string;
  readonly delay?: DurationInit;
  readonly runTimeout?: DurationInit;
  readonly executionTimeout?: DurationInit;
  readonly wait?: boolean;
}

interface FilterOptions {
  readonly status?: readonly string[];
  readonly type?: string;
  readonly taskQueue?: string;
  readonly workflowId?: string;
  readonly build?: string;
  readonly since?: Timestamp;
  readonly until?: Timestamp;
  readonly limit: number;
  readonly watch?: boolean;
}

export function addRunCommands(program: Command): void {
  const run = program.command('run').description('start runs, look at them, act on them');
  addStart(run);
  addReads(run);
  addActions(run);
}

function addStart(run: Command): void {
  run
    .command('start <type>')
    .description('start a run of a workflow')
    .requiredOption('-q, --task-queue <name>', 'queue whose workers execute it')
    .option('-i, --input <json>', 'input as JSON')
    .option('--input-file <path>', 'file with the input as JSON; - for stdin')
    .option('--workflow-id <id>', 'your own id, unique among open runs')
    .option('--request-id <id>', 'equal ids are one start')
    .option('--priority <n>', '-100 to 100, higher is claimed first', integerArgument)
    .option('--build <name>', 'build that the run is meant for')
    .option('--delay <duration>', 'wait before the first claim', durationArgument)
    .option('--run-timeout <duration>', 'fail it when it has not ended by then', durationArgument)
    .option('--execution-timeout <duration>', 'fail it when one attempt takes longer', durationArgument)
    .option('--wait', 'wait for its result')
    .action((type: string, options: StartOptions, command: Command) =>
      withSession(command, async (session) => {
        const input = readInput(options);
        const started = await session.workflows.startWorkflow({
          namespace: session.namespace,
          workflowType: type,
          taskQueue: options.taskQueue,
          workflowId: options.workflowId ?? '',
          requestId: options.requestId ?? newUuid(),
          priority: options.priority ?? 0,
          version: options.build ?? '',
          ...(input === undefined ? {} : { input: devalueCodec.encode(input) }),
          ...(options.delay === undefined ? {} : { startDelay: options.delay }),
          ...(options.runTimeout === undefined ? {} : { runTimeout: options.runTimeout }),
          ...(options.executionTimeout === undefined ? {} : { executionTimeout: options.executionTimeout }),
        });
        if (options.wait === true) return showResult(session, started.runId);
        const { runId, workflowId, created } = started;
        const text = created
          ? `Started run ${pc.bold(runId)}. Follow it with: perdure run watch ${runId}`
          : `Run ${pc.bold(runId)} was started by an equal earlier call.`;
        printOne(session.output, { id: runId, json: { runId, workflowId, created }, text });
      }),
    );
}

function readInput({ input, inputFile }: StartOptions): unknown {
  if (input !== undefined && inputFile !== undefined) {
    throw new CliError('Give either --input or --input-file.', EXIT.usage);
  }
  const text = input ?? (inputFile === undefined ? undefined : readFileSync(inputFile === '-' ? 0 : inputFile, 'utf8'));
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CliError(`The input is not JSON: ${why}. A text needs quotes: --input '"hello"'.`, EXIT.usage);
  }
}

function addFilters(command: Command): Command {
  return command
    .option('-t, --type <name>', 'workflow type')
    .option('-q, --task-queue <name>', 'task queue')
    .option('--since <time>', 'created at or after: a time, or 2h for two hours ago', timeArgument)
    .option('--until <time>', 'created before: a time, or 2h for two hours ago', timeArgument);
}

function addReads(run: Command): void {
  watchable(addFilters(run.command('list')))
    .description('list runs, newest first')
    .option('-s, --status <status>', 'status, several with commas between', collect)
    .option('--workflow-id <id>', 'workflow id')
    .option('--build <name>', 'build')
    .option('-n, --limit <n>', 'runs at the most; 0 for all', integerArgument, 50)
    .action((options: FilterOptions, command: Command) =>
      withSession(command, (session) =>
        repeatedly(options, async () => printList(session.output, await listRuns(session, options), runListView)),
      ),
    );

  addFilters(run.command('count'))
    .description('count runs by status')
    .action((options: FilterOptions, command: Command) =>
      withSession(command, async (session) => {
        const { counts, total } = await session.workflows.countRuns({
          namespace: session.namespace,
          workflowType: options.type ?? '',
          taskQueue: options.taskQueue ?? '',
          ...(options.since === undefined ? {} : { createdAfter: options.since }),
          ...(options.until === undefined ? {} : { createdBefore: options.until }),
        });
        const rows = [
          ...counts.map(({ status, count }) => ({ status: RunStatus[status] ?? '', count })),
          { status: 'total', count: total },
        ];
        printList(session.output, rows, {
          columns: [
            { title: 'STATUS', value: (row) => row.status },
            { title: 'RUNS', align: 'right', value: (row) => String(row.count) },
          ],
          id: (row) => `${row.status} ${row.count}`,
          json: (row) => ({ status: row.status, count: Number(row.count) }),
          empty: '',
        });
      }),
    );

  run
    .command('get <id...>')
    .description('show runs with input and output; - reads ids from stdin')
    .action((ids: string[], _: unknown, command: Command) =>
      withSession(command, async (session) => {
        for (const id of await idsOf(ids)) {
          const found = await withRun(session, id, (ref) => session.workflows.getRun(ref));
          const got = found.run as WorkflowRun;
          printOne(session.output, { id: got.runId, json: runJson(got), text: runText(got) });
        }
      }),
    );

  watchable(run.command('describe <id>'))
    .description('say where a run is, and why it is not moving')
    .action((id: string, options: { watch?: boolean }, command: Command) =>
      withSession(command, (session) => repeatedly(options, () => describeRun(session, id))),
    );

  watchable(run.command('history <id>'))
    .description('show every attempt of every step')
    .option('--payloads', 'with outputs and heartbeat details (json formats)')
    .action((id: string, options: { watch?: boolean; payloads?: boolean }, command: Command) =>
      withSession(command, (session) =>
        repeatedly(options, async () => {
          const steps = await readHistory(session, id, options.payloads === true);
          printList(session.output, steps, stepListView(steps));
        }),
      ),
    );

  run
    .command('watch <id>')
    .description('follow a run until it has ended')
    .action((id: string, _: unknown, command: Command) => withSession(command, (session) => watchRun(session, id)));

  run
    .command('result <id>')
    .description('wait for a run to end and print its output')
    .action((id: string, _: unknown, command: Command) =>
      withSession(command, async (session) => showResult(session, await runIdOf(session, id))),
    );
}

function addActions(run: Command): void {
  const actions = [
    ['cancel', 'ask runs to end; their code may clean up', 'cancelRun'],
    ['terminate', 'end runs at once; their code gets no chance to clean up', 'terminateRun'],
  ] as const;
  for (const [name, description, method] of actions) {
    run
      .command(`${name} <id...>`)
      .description(`${description}; - reads ids from stdin`)
      .option('-r, --reason <text>', 'kept with the run', '')
      .action((ids: string[], options: { reason: string }, command: Command) =>
        withSession(command, async (session) => {
          let refused: RpcError | undefined;
          for (const id of await idsOf(ids)) {
            try {
              const { status } = await withRun(
                session,
                id,
                (ref): Promise<{ readonly status: RunStatus }> =>
                  session.workflows[method]({ ...ref, reason: options.reason }),
              );
              const asked = status !== RunStatus.CANCELLED && status !== RunStatus.TERMINATED;
              const text = `${id} ${runStatusText(status)}${asked ? ' (cancel asked for)' : ''}`;
              printOne(session.output, { id, json: { id, status: RunStatus[status] }, text });
            } catch (error) {
              // The others of the list are still to be dealt with.
              if (!(error instanceof RpcError) || error.isTransient || ids.length === 1) throw error;
              process.stderr.write(`${pc.red('error')} ${error.message}\n`);
              refused = error;
            }
          }
          if (refused !== undefined) throw new CliError('Not all runs could be dealt with; see above.', EXIT.refused);
        }),
      );
  }
}

async function listRuns(session: Session, options: FilterOptions): Promise<WorkflowRun[]> {
  const statuses = (options.status ?? []).map((text) => {
    const status = RunStatus[text.toUpperCase() as keyof typeof RunStatus];
    if (status === undefined || status === RunStatus.UNSPECIFIED) {
      const known = Object.keys(RunStatus).filter((name) => Number.isNaN(Number(name)) && name !== 'UNSPECIFIED');
      throw new CliError(`There is no status '${text}'; there are ${known.join(', ')}.`, EXIT.usage);
    }
    return status;
  });
  const limit = options.limit === 0 ? Number.POSITIVE_INFINITY : options.limit;
  const runs: WorkflowRun[] = [];
  let pageToken = '';
  do {
    const page = await session.workflows.listRuns({
      namespace: session.namespace,
      statuses,
      workflowType: options.type ?? '',
      taskQueue: options.taskQueue ?? '',
      workflowId: options.workflowId ?? '',
      version: options.build ?? '',
      pageSize: Math.min(1_000, limit - runs.length),
      pageToken,
      ...(options.since === undefined ? {} : { createdAfter: options.since }),
      ...(options.until === undefined ? {} : { createdBefore: options.until }),
    });
    runs.push(...page.runs);
    pageToken = page.nextPageToken;
  } while (pageToken !== '' && runs.length < limit);
  return runs;
}

async function readHistory(session: Session, id: string, includePayloads: boolean): Promise<StepAttempt[]> {
  const runId = await runIdOf(session, id);
  const steps: StepAttempt[] = [];
  let pageToken = '';
  do {
    const page = await session.workflows.getHistory({
      namespace: session.namespace,
      runId,
      includePayloads,
      pageSize: includePayloads ? 100 : 1_000,
      pageToken,
    });
    steps.push(...page.steps);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return steps;
}

async function describeRun(session: Session, id: string): Promise<void> {
  const described = await withRun(session, id, (ref) => session.workflows.describeRun(ref));
  const run = described.run as WorkflowRun;
  const { explanation, currentSteps, completedSteps, attempts, workersOnline, workersWithType } = described;
  const current = currentSteps.map((step) => {
    const tries = step.maxTries > 0 ? ` of ${step.maxTries}` : '';
    const next = step.nextRetryAt ?? step.firesAt;
    const due = next === undefined ? '' : `, due ${timeText(next)}`;
    return `  ${safe(step.stepId)}  ${stepStatusText(step.status)}  try ${step.tryNumber}${tries}${due}`;
  });
  printOne(session.output, {
    id: run.runId,
    json: {
      run: runJson(run),
      waitReason: WaitReason[described.waitReason],
      explanation,
      currentSteps: currentSteps.map(stepJson),
      completedSteps,
      attempts,
      workersOnline,
      workersWithType,
    },
    text: [
      runText(run),
      '',
      pc.bold(safe(explanation)),
      pc.dim(
        `${completedSteps} steps completed, ${attempts} attempts; ${workersOnline} workers online for its queue, ${workersWithType} with its type.`,
      ),
      ...(current.length > 0 ? ['', pc.dim('now'), ...current] : []),
    ].join('\n'),
  });
}

async function watchRun(session: Session, id: string): Promise<void> {
  const runId = await runIdOf(session, id);
  const isJson = session.output === 'json' || session.output === 'jsonl';
  let last: WorkflowRun | undefined;
  for await (const change of session.workflows.watchRun({ namespace: session.namespace, runId })) {
    if (change.run !== undefined) last = change.run;
    if (isJson) {
      write(
        JSON.stringify({
          ...(change.run === undefined ? {} : { run: runJson(change.run) }),
          steps: change.steps.map(stepJson),
        }),
      );
      continue;
    }
    for (const step of change.steps) {
      const took = step.finishedAt === undefined ? '' : ` after ${spanText(span(step))}`;
      const why = step.failure === undefined ? '' : ` ${pc.red(safe(step.failure.message))}`;
      write(
        `${timeText(step.finishedAt ?? step.startedAt)}  step ${safe(step.stepId)} attempt ${step.attemptNumber} ${stepStatusText(step.status)}${took}${why}`,
      );
    }
    if (change.run !== undefined) {
      const wakes = change.run.wakeAt === undefined ? '' : `, wakes ${timeText(change.run.wakeAt)}`;
      const worker = change.run.lockedBy === '' ? '' : ` on worker ${change.run.lockedBy}`;
      write(
        `${timeText(change.run.updatedAt)}  ${pc.bold('run')} ${runStatusText(change.run.status)}${worker}${wakes}`,
      );
    }
  }
  if (last !== undefined) endOf(session, last, isJson);
}

function span(step: StepAttempt): number | undefined {
  if (step.startedAt === undefined || step.finishedAt === undefined) return undefined;
  return (
    Number(step.finishedAt.seconds - step.startedAt.seconds) * 1000 +
    (step.finishedAt.nanos - step.startedAt.nanos) / 1e6
  );
}

async function showResult(session: Session, runId: string): Promise<void> {
  for (;;) {
    const { run, finished } = await session.workflows.awaitRun({ namespace: session.namespace, runId });
    if (finished && run !== undefined) return endOf(session, run, false);
  }
}

/** Prints how a run ended; anything but COMPLETED is exit code 1. */
function endOf(session: Session, run: WorkflowRun, quiet: boolean): void {
  if (run.status === RunStatus.COMPLETED) {
    if (quiet) return;
    const text = payloadText(run.output) ?? pc.dim('(no output)');
    printOne(session.output, { id: run.runId, json: payloadJson(run.output) ?? null, text });
    return;
  }
  const why = failureText(run.failure) ?? safe(run.cancelReason);
  throw new CliError(`Run ${run.runId} ended ${RunStatus[run.status]}. ${why}`, EXIT.failed);
}
