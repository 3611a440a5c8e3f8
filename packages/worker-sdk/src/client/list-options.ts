import type { MessageInitShape } from '@bufbuild/protobuf';
import { type ListRunsRequestSchema, RunStatus as RunStatusNumber } from '@perdure/proto';
import { didYouMean, refuseUnknownKeys } from '../options.js';
import { timestampMessage } from '../rpc/time.js';
import { shown } from '../text.js';
import type { RunStatus } from './run-summary.js';

/** Which runs; those given must all hold. */
export interface ListOptions {
  readonly status?: RunStatus | readonly RunStatus[];
  readonly workflowType?: string;
  readonly taskQueue?: string;
  readonly workflowId?: string;
  readonly build?: string;
  readonly createdAfter?: Date;
  readonly createdBefore?: Date;
  /** Runs fetched with one call, 1 to 1,000; default 100. */
  readonly pageSize?: number;
}

const KNOWN: readonly (keyof ListOptions)[] = [
  'status',
  'workflowType',
  'taskQueue',
  'workflowId',
  'build',
  'createdAfter',
  'createdBefore',
  'pageSize',
];
const STATUSES = Object.keys(RunStatusNumber).filter((name) => /^[A-Z]+$/.test(name) && name !== 'UNSPECIFIED');

/** @throws {TypeError} naming the option that is wrong */
export function listRequest(namespace: string, options: ListOptions): MessageInitShape<typeof ListRunsRequestSchema> {
  refuseUnknownKeys('A list', options, KNOWN);
  const { status = [], createdAfter, createdBefore } = options;
  return {
    namespace,
    statuses: [status].flat().map(statusNumber),
    workflowType: options.workflowType ?? '',
    taskQueue: options.taskQueue ?? '',
    workflowId: options.workflowId ?? '',
    build: options.build ?? '',
    pageSize: options.pageSize ?? 100,
    ...(createdAfter === undefined ? {} : { createdAfter: timestampMessage(createdAfter) }),
    ...(createdBefore === undefined ? {} : { createdBefore: timestampMessage(createdBefore) }),
  };
}

function statusNumber(status: RunStatus): RunStatusNumber {
  if (STATUSES.includes(status)) return RunStatusNumber[status];
  throw new TypeError(
    `status has no value ${shown(status)}${didYouMean(String(status), STATUSES)} Expected one of: ${STATUSES.join(', ')}.`,
  );
}
