/** Bulk operations for people and for JSON. */
import { toJson } from '@bufbuild/protobuf';
import {
  BulkActionKind,
  BulkKind,
  type BulkOperation,
  BulkStatus,
  Compensation,
  type RunFilter,
  RunFilterSchema,
  RunStatus,
} from '@perdure/proto';
import pc from 'picocolors';
import { fieldsText, type ListView } from './print.js';
import { bulkStatusText } from './statuses.js';
import { count, safe } from './text.js';
import { betweenMs, spanText, timeJson, timeText } from './time.js';

/** Runs that it has looked at. */
export const looked = ({ changed, unchanged, refused }: BulkOperation): number => changed + unchanged + refused;

export const isEnded = ({ status }: BulkOperation): boolean =>
  status === BulkStatus.COMPLETED || status === BulkStatus.ABORTED;

const number = (n: number) => n.toLocaleString('en-US');
const kindText = (kind: BulkKind) => BulkKind[kind].toLowerCase();

export const bulkListView: ListView<BulkOperation> = {
  columns: [
    { title: 'OPERATION', value: (operation) => operation.operationId },
    { title: 'KIND', value: ({ kind }) => kindText(kind) },
    { title: 'STATUS', value: ({ status }) => bulkStatusText(status) },
    {
      title: 'DONE',
      align: 'right',
      value: (operation) => `${number(looked(operation))} of ${matchedText(operation)}`,
    },
    { title: 'CHANGED', align: 'right', wide: true, value: ({ changed }) => number(changed) },
    { title: 'UNCHANGED', align: 'right', wide: true, value: ({ unchanged }) => number(unchanged) },
    { title: 'REFUSED', align: 'right', value: ({ refused }) => number(refused) },
    { title: 'STARTED', dispensable: 1, value: ({ createdAt }) => timeText(createdAt) },
    { title: 'BY', min: 8, dispensable: 2, value: ({ actor }) => safe(actor) },
    { title: 'REASON', min: 8, dispensable: 3, value: ({ reason }) => safe(reason) },
  ],
  id: (operation) => operation.operationId,
  json: bulkJson,
  empty: 'No bulk operation was started.',
};

export function bulkJson(operation: BulkOperation): unknown {
  const { operationId, namespace, reason, actor, signalName, rate, matched, matchedIsExact, workedBy } = operation;
  const { changed, unchanged, refused, refusals, trouble, filter } = operation;
  return {
    operationId,
    namespace,
    kind: BulkKind[operation.kind],
    status: BulkStatus[operation.status],
    filter: filterJson(filter),
    signalName,
    reason,
    actor,
    rate,
    matched,
    matchedIsExact,
    changed,
    unchanged,
    refused,
    refusals: refusals.map(({ runId, why }) => ({ runId, why })),
    actions: operation.actions.map((action) => ({
      kind: BulkActionKind[action.kind],
      actedAt: timeJson(action.actedAt),
      actor: action.actor,
      reason: action.reason,
    })),
    workedBy,
    trouble,
    createdAt: timeJson(operation.createdAt),
    finishedAt: timeJson(operation.finishedAt),
  };
}

function filterJson(filter: RunFilter | undefined): unknown {
  if (filter === undefined) return {};
  return {
    ...(toJson(RunFilterSchema, filter) as object),
    statuses: filter.statuses.map((status) => RunStatus[status]),
    ...(filter.compensation === 0 ? {} : { compensation: Compensation[filter.compensation] }),
  };
}

export function bulkText(operation: BulkOperation): string {
  const { kind, signalName, rate, trouble, refusals } = operation;
  const fields = fieldsText([
    ['operation', operation.operationId],
    ['kind', `${kindText(kind)}${signalName === '' ? '' : ` '${safe(signalName)}'`}`],
    ['status', bulkStatusText(operation.status)],
    ['runs', filterText(operation.filter)],
    ['namespace', operation.namespace],
    ['matched', `${matchedText(operation)} when it was started`],
    ['changed', number(operation.changed)],
    ['unchanged', operation.unchanged === 0 ? undefined : `${number(operation.unchanged)} (nothing to do)`],
    ['refused', operation.refused === 0 ? undefined : pc.red(number(operation.refused))],
    ['rate', `at most ${count(rate, 'run')} per second`],
    ['ended', timeText(operation.finishedAt)],
    ['took', spanText(betweenMs(operation.createdAt, operation.finishedAt))],
    ['last server', safe(operation.workedBy)],
    ['trouble', trouble === '' ? undefined : pc.red(safe(trouble))],
  ]);
  const actions = operation.actions.map(
    (action) =>
      `  ${timeText(action.actedAt)} ${ACTED[action.kind]}${action.actor === '' ? '' : ` by ${safe(action.actor)}`}` +
      `${action.reason === '' ? '' : `: ${safe(action.reason)}`}`,
  );
  const refused = refusals.map(({ runId, why }) => `  ${runId} ${safe(why)}`);
  return [
    fields,
    ['', 'by hand', ...actions].join('\n'),
    ...(refused.length === 0 ? [] : [['', `refused, the first ${refused.length}`, ...refused].join('\n')]),
  ].join('\n');
}

const ACTED: Readonly<Record<BulkActionKind, string>> = {
  [BulkActionKind.UNSPECIFIED]: 'changed',
  [BulkActionKind.START]: 'started',
  [BulkActionKind.PAUSE]: 'paused',
  [BulkActionKind.RESUME]: 'resumed',
  [BulkActionKind.ABORT]: 'aborted',
};

function matchedText({ matched, matchedIsExact }: BulkOperation): string {
  return `${number(matched)}${matchedIsExact ? '' : '+'}`;
}

function filterText(filter: RunFilter | undefined): string {
  if (filter === undefined) return '';
  const parts = [
    ['status', filter.statuses.map((status) => RunStatus[status].toLowerCase()).join(',')],
    ['type', filter.workflowType],
    ['task-queue', filter.taskQueue],
    ['workflow-id', filter.workflowId],
    ['build', filter.build],
    ['since', timeText(filter.createdAfter)],
    ['until', timeText(filter.createdBefore)],
    ['parent', filter.parentRunId],
    ['compensation', filter.compensation === 0 ? '' : Compensation[filter.compensation].toLowerCase()],
    ['fingerprint', filter.failureFingerprint],
  ] as const;
  return [
    ...parts.flatMap(([name, value]) => (value === '' ? [] : [`--${name} ${safe(value)}`])),
    ...(filter.held ? ['--held'] : []),
    ...(filter.unresolved ? ['--unresolved'] : []),
  ].join(' ');
}

const BAR = 24;

/** `cancel  [######------------------]  1,203 of 4,812 (25%), 500/s, about 7.2 s left`. */
export function progressText(operation: BulkOperation, perSecond: number): string {
  const done = looked(operation);
  const total = Math.max(done, operation.matched);
  const part = total === 0 ? 1 : done / total;
  const filled = Math.round(part * BAR);
  const bar = `[${'#'.repeat(filled)}${'-'.repeat(BAR - filled)}]`;
  const speed = perSecond > 0 ? `, ${number(Math.round(perSecond))}/s` : '';
  const left =
    perSecond > 0 && !isEnded(operation) && total > done
      ? `, about ${spanText(((total - done) / perSecond) * 1_000)} left`
      : '';
  const paused = operation.status === BulkStatus.PAUSED ? ' PAUSED' : '';
  return `${kindText(operation.kind)} ${bar} ${number(done)} of ${matchedText(operation)} (${Math.floor(part * 100)}%)${speed}${left}${paused}`;
}

/** `completed: 4,810 changed, 2 refused`. */
export function summaryText(operation: BulkOperation): string {
  const { changed, unchanged, refused } = operation;
  const parts = [
    `${number(changed)} changed`,
    ...(unchanged === 0 ? [] : [`${number(unchanged)} unchanged`]),
    ...(refused === 0 ? [] : [`${number(refused)} refused`]),
  ];
  return `${bulkStatusText(operation.status)}: ${parts.join(', ')}`;
}
