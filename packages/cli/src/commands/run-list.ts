/** Lists and counts of runs. */
import type { Timestamp } from '@bufbuild/protobuf/wkt';
import { Compensation, RunStatus, type WorkflowRun } from '@perdure/proto';
import type { Command } from 'commander';
import { CliError, EXIT } from '../exit-codes.js';
import { hint, isTable, type ListView, printList } from '../output/print.js';
import { runListView } from '../output/run-view.js';
import { OFFERED_COMPENSATIONS, OFFERED_STATUSES } from '../output/statuses.js';
import { type Session, withSession } from '../session.js';
import { collect, countArgument, timeArgument } from './arguments.js';
import { repeatedly, watchable } from './repeat.js';

interface FilterOptions {
  readonly type?: string;
  readonly taskQueue?: string;
  readonly since?: Timestamp;
  readonly until?: Timestamp;
  readonly parent?: string;
  readonly compensation?: Compensation;
}

interface ListOptions extends FilterOptions {
  readonly status?: readonly string[];
  readonly workflowId?: string;
  readonly build?: string;
  readonly held?: boolean;
  readonly unresolved?: boolean;
  readonly fingerprint?: string;
  readonly limit: number;
  readonly cursor?: string;
  readonly watch?: boolean;
}

const COMPENSATION_NAMES = OFFERED_COMPENSATIONS.map((state) => Compensation[state].toLowerCase());
const STATUS_NAMES = OFFERED_STATUSES.map((status) => RunStatus[status].toLowerCase());

export function addLists(run: Command): void {
  watchable(addFilters(run.command('list')))
    .description('list runs, newest first')
    .option('-s, --status <status>', `${STATUS_NAMES.join(', ')}; several with commas between`, collect)
    .option('--workflow-id <id>', 'workflow id')
    .option('--build <name>', 'build that the run was started for')
    .option('--held', 'only runs that are held, because their worker could not continue them')
    .option('--unresolved', 'only failed runs that nobody has retried, restarted or dismissed')
    .option('--fingerprint <fingerprint>', 'only unresolved runs that failed alike, see perdure run failures')
    .option('-n, --limit <n>', 'list at most n runs; 0 for all', countArgument, 50)
    .option('--cursor <cursor>', 'continue after an earlier list with the same filters')
    .action((options: ListOptions, command: Command) =>
      withSession(command, (session) => repeatedly(options, () => showRuns(session, options))),
    );

  addFilters(run.command('count'))
    .description('count runs by status')
    .action((options: FilterOptions, command: Command) =>
      withSession(command, async (session) => {
        const { counts, total } = await session.workflows.countRuns({
          namespace: session.namespace,
          ...filterFields(options),
        });
        const rows = counts.map(({ status, count }) => ({ status: RunStatus[status] ?? '', count }));
        printList(
          session.output,
          isTable(session.output) ? [...rows, { status: 'total', count: total }] : rows,
          countView,
        );
      }),
    );
}

const countView: ListView<{ readonly status: string; readonly count: bigint }> = {
  columns: [
    { title: 'STATUS', value: (row) => row.status },
    { title: 'RUNS', align: 'right', value: (row) => String(row.count) },
  ],
  id: (row) => `${row.status} ${row.count}`,
  json: (row) => ({ status: row.status, count: Number(row.count) }),
  empty: '',
};

function addFilters(command: Command): Command {
  return command
    .option('-t, --type <name>', 'workflow type')
    .option('-q, --task-queue <name>', 'task queue')
    .option('--since <time>', 'created at or after: a time, or 2h for two hours ago', timeArgument)
    .option('--compensation <state>', `${COMPENSATION_NAMES.join(', ')}`, compensationOf)
    .option('--parent <run>', 'children of this run, by its run id')
    .option('--until <time>', 'created before: a time, or 2h for two hours ago', timeArgument);
}

function filterFields({ type, taskQueue, since, until, parent, compensation }: FilterOptions) {
  return {
    workflowType: type ?? '',
    taskQueue: taskQueue ?? '',
    parentRunId: parent ?? '',
    compensation: compensation ?? Compensation.UNSPECIFIED,
    ...(since === undefined ? {} : { createdAfter: since }),
    ...(until === undefined ? {} : { createdBefore: until }),
  };
}

export async function showRuns(session: Session, options: ListOptions): Promise<void> {
  const statuses = (options.status ?? []).map(statusOf);
  const limit = options.limit === 0 ? Number.POSITIVE_INFINITY : options.limit;
  const runs: WorkflowRun[] = [];
  let pageToken = options.cursor ?? '';
  do {
    const page = await session.workflows.listRuns({
      namespace: session.namespace,
      statuses,
      ...filterFields(options),
      workflowId: options.workflowId ?? '',
      build: options.build ?? '',
      held: options.held === true,
      unresolved: options.unresolved === true,
      failureFingerprint: options.fingerprint ?? '',
      pageSize: Math.min(1_000, limit - runs.length),
      pageToken,
    });
    runs.push(...page.runs);
    pageToken = page.nextPageToken;
  } while (pageToken !== '' && runs.length < limit);
  printList(session.output, runs, runListView);
  if (pageToken !== '') {
    hint(`The first ${runs.length}; there are more runs. All: --limit 0. Next page: --cursor ${pageToken}`);
  }
}

function compensationOf(text: string): Compensation {
  const compensation = Compensation[text.trim().toUpperCase() as keyof typeof Compensation];
  if (OFFERED_COMPENSATIONS.includes(compensation)) return compensation;
  throw new CliError(`Unknown compensation '${text}'; expected one of: ${COMPENSATION_NAMES.join(', ')}.`, EXIT.usage);
}

function statusOf(text: string): RunStatus {
  const status = RunStatus[text.trim().toUpperCase() as keyof typeof RunStatus];
  if (OFFERED_STATUSES.includes(status)) return status;
  throw new CliError(`Unknown status '${text}'; expected one of: ${STATUS_NAMES.join(', ')}.`, EXIT.usage);
}
