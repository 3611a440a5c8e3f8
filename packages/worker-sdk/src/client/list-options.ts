import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  Compensation as CompensationNumber,
  type ListRunsRequestSchema,
  RunStatus as RunStatusNumber,
  timestampOf,
} from '@perdure/proto';
import { didYouMean, refuseUnknownKeys } from '../options.js';
import { shown } from '../text.js';
import type { Compensation, RunStatus } from './run-summary.js';

/** Which runs to list; a run must match every filter that is given. */
export interface ListOptions {
  /** One status or several, any of which matches; default: all. */
  readonly status?: RunStatus | readonly RunStatus[];
  /** The workflow's name. */
  readonly workflowType?: string;
  /** Name of the task queue. */
  readonly taskQueue?: string;
  /** Their workflow id: ended runs may share one. */
  readonly workflowId?: string;
  /** Build that the runs were started for. */
  readonly build?: string;
  /** Runs started at this time or later. */
  readonly createdAfter?: Date;
  /** Runs started before this time. */
  readonly createdBefore?: Date;
  /** Only runs whose compensations run, have completed, or could not all be carried out. */
  readonly compensation?: Compensation;
  /** Only runs that are held: paused, because their worker could not continue them. */
  readonly held?: boolean;
  /** Only dead letters: runs that have FAILED and that nobody has retried, restarted or dismissed. */
  readonly unresolved?: boolean;
  /** Only dead letters with this fingerprint, see `client.failures()`. */
  readonly failureFingerprint?: string;
  /** Runs fetched with one call, 1 to 1,000; default 100. */
  readonly pageSize?: number;
}

/** What chooses runs. */
export const FILTER_KEYS: readonly (keyof ListOptions)[] = [
  'status',
  'workflowType',
  'taskQueue',
  'workflowId',
  'build',
  'createdAfter',
  'createdBefore',
  'compensation',
  'held',
  'unresolved',
  'failureFingerprint',
];
const STATUSES = Object.keys(RunStatusNumber).filter((name) => /^[A-Z]+$/.test(name) && name !== 'UNSPECIFIED');

/** @throws {TypeError} naming the option that is wrong */
export function listRequest(namespace: string, options: ListOptions): MessageInitShape<typeof ListRunsRequestSchema> {
  refuseUnknownKeys('A list', options, [...FILTER_KEYS, 'pageSize']);
  return { namespace, ...filterFields(options), pageSize: options.pageSize ?? 100 };
}

/** @throws {TypeError} naming the option that is wrong */
export function filterFields(options: Omit<ListOptions, 'pageSize'>) {
  const { status = [], createdAfter, createdBefore } = options;
  return {
    statuses: [status].flat().map(statusNumber),
    workflowType: options.workflowType ?? '',
    taskQueue: options.taskQueue ?? '',
    workflowId: options.workflowId ?? '',
    build: options.build ?? '',
    held: options.held ?? false,
    unresolved: options.unresolved ?? false,
    failureFingerprint: options.failureFingerprint ?? '',
    compensation: compensationNumber(options.compensation),
    ...(createdAfter === undefined ? {} : { createdAfter: timestampOf(createdAfter) }),
    ...(createdBefore === undefined ? {} : { createdBefore: timestampOf(createdBefore) }),
  };
}

function statusNumber(status: RunStatus): RunStatusNumber {
  if (STATUSES.includes(status)) return RunStatusNumber[status];
  throw new TypeError(
    `status cannot be ${shown(status)}${didYouMean(String(status), STATUSES)} Expected one of: ${STATUSES.join(', ')}.`,
  );
}

const COMPENSATIONS = ['COMPENSATING', 'COMPLETE', 'PARTIAL'] as const;

function compensationNumber(compensation: Compensation | undefined): CompensationNumber {
  if (compensation === undefined) return CompensationNumber.UNSPECIFIED;
  if (COMPENSATIONS.includes(compensation)) return CompensationNumber[compensation];
  throw new TypeError(
    `compensation cannot be ${shown(compensation)}${didYouMean(String(compensation), COMPENSATIONS)} Expected one of: ${COMPENSATIONS.join(', ')}.`,
  );
}
