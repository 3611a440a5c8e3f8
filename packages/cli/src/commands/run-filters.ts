/** Options that choose runs. */
import type { Timestamp } from '@bufbuild/protobuf/wkt';
import { Compensation, RunStatus } from '@perdure/proto';
import type { Command } from 'commander';
import { CliError, EXIT } from '../exit-codes.js';
import { OFFERED_COMPENSATIONS, OFFERED_STATUSES } from '../output/statuses.js';
import { collect, timeArgument } from './arguments.js';

/** What counts and lists have in common. */
export interface CommonFilter {
  readonly type?: string;
  readonly taskQueue?: string;
  readonly since?: Timestamp;
  readonly until?: Timestamp;
  readonly parent?: string;
  readonly compensation?: Compensation;
}

export interface RunFilterOptions extends CommonFilter {
  readonly status?: readonly string[];
  readonly workflowId?: string;
  readonly build?: string;
  readonly held?: boolean;
  readonly unresolved?: boolean;
  readonly fingerprint?: string;
}

const COMPENSATION_NAMES = OFFERED_COMPENSATIONS.map((state) => Compensation[state].toLowerCase());
const STATUS_NAMES = OFFERED_STATUSES.map((status) => RunStatus[status].toLowerCase());

export function addCommonFilters(command: Command): Command {
  return command
    .option('-t, --type <name>', 'workflow type')
    .option('-q, --task-queue <name>', 'task queue')
    .option('--since <time>', 'created at or after: a time, or 2h for two hours ago', timeArgument)
    .option('--compensation <state>', `${COMPENSATION_NAMES.join(', ')}`, compensationOf)
    .option('--parent <run>', 'children of this run, by its run id')
    .option('--until <time>', 'created before: a time, or 2h for two hours ago', timeArgument);
}

export function addRunFilters(command: Command): Command {
  return addCommonFilters(command)
    .option('-s, --status <status>', `${STATUS_NAMES.join(', ')}; several with commas between`, collect)
    .option('--workflow-id <id>', 'workflow id')
    .option('--build <name>', 'build that the run was started for')
    .option('--held', 'only runs that are held, because their worker could not continue them')
    .option('--unresolved', 'only dead letters: failed runs that nobody has retried, restarted or dismissed')
    .option('--fingerprint <fingerprint>', 'only dead letters that failed alike, see perdure run failures');
}

export function commonFields({ type, taskQueue, since, until, parent, compensation }: CommonFilter) {
  return {
    workflowType: type ?? '',
    taskQueue: taskQueue ?? '',
    parentRunId: parent ?? '',
    compensation: compensation ?? Compensation.UNSPECIFIED,
    ...(since === undefined ? {} : { createdAfter: since }),
    ...(until === undefined ? {} : { createdBefore: until }),
  };
}

/** The fields of a request that chooses runs; they have the same names in all. */
export function filterFields(options: RunFilterOptions) {
  return {
    ...commonFields(options),
    statuses: (options.status ?? []).map(statusOf),
    workflowId: options.workflowId ?? '',
    build: options.build ?? '',
    held: options.held === true,
    unresolved: options.unresolved === true,
    failureFingerprint: options.fingerprint ?? '',
  };
}

/** Whether anything was chosen. */
export function hasFilter(options: RunFilterOptions): boolean {
  const { type, taskQueue, since, until, parent, compensation, status, workflowId, build, held } = options;
  const { unresolved, fingerprint } = options;
  return [
    type,
    taskQueue,
    since,
    until,
    parent,
    compensation,
    status,
    workflowId,
    build,
    held,
    unresolved,
    fingerprint,
  ].some((given) => given !== undefined);
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
