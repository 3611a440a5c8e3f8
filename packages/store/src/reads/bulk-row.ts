/** Bulk operations as they are stored. */
import { payloadOf } from '../database/payload-columns.js';
import type { BulkActionKind, BulkKind, BulkStatus, Payload } from '../model.js';
import type { RunFilter } from './queries.js';

/** What a person did to an operation. */
export interface BulkAction {
  readonly kind: BulkActionKind;
  readonly actedAt: Date;
  readonly actor: string;
  readonly reason: string;
}

/** A run on which an operation could not act. */
export interface BulkRefusal {
  readonly runId: string;
  /** For people. */
  readonly why: string;
}

export interface BulkOperation {
  readonly operationId: string;
  readonly namespace: string;
  readonly kind: BulkKind;
  readonly status: BulkStatus;
  readonly filter: RunFilter;
  readonly actor: string;
  readonly reason: string;
  /** SIGNAL. */
  readonly signalName: string | null;
  /** Runs per second. */
  readonly rate: number;
  /** Runs that matched when it was started. */
  readonly matched: number;
  /** False: at least `matched`. */
  readonly isExact: boolean;
  readonly changed: number;
  readonly unchanged: number;
  readonly refused: number;
  /** The first 20. */
  readonly refusals: readonly BulkRefusal[];
  readonly actions: readonly BulkAction[];
  /** The server that did the last chunk. */
  readonly workedBy: string | null;
  /** Why the last chunk could not be done. */
  readonly trouble: string | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly finishedAt: Date | null;
}

/** Of a table aliased `o`, without the payload of a signal. */
export const BULK_COLUMNS = `o.operation_id, o.namespace, o.kind, o.status, o.filter, o.actor, o.reason, o.signal_name, o.rate, o.matched, o.is_exact,
    o.changed, o.unchanged, o.refused, o.refusals, o.actions, o.worked_by, o.trouble, o.created_at, o.updated_at, o.finished_at`;

export interface BulkRow {
  readonly operation_id: string;
  readonly namespace: string;
  readonly kind: BulkKind;
  readonly status: BulkStatus;
  readonly filter: StoredFilter;
  readonly actor: string;
  readonly reason: string;
  readonly signal_name: string | null;
  readonly rate: number;
  readonly matched: number;
  readonly is_exact: boolean;
  readonly changed: number;
  readonly unchanged: number;
  readonly refused: number;
  readonly refusals: readonly BulkRefusal[];
  readonly actions: readonly {
    readonly kind: BulkActionKind;
    /** Ms since 1970. */
    readonly at: number;
    readonly actor: string;
    readonly reason: string;
  }[];
  readonly worked_by: string | null;
  readonly trouble: string | null;
  readonly created_at: Date;
  readonly updated_at: Date;
  readonly finished_at: Date | null;
  readonly payload?: Uint8Array | null;
  readonly payload_encoding?: string | null;
}

/** A filter as JSON: times are ISO 8601. */
type StoredFilter = Omit<RunFilter, 'createdAfter' | 'createdBefore'> & {
  readonly createdAfter: string | null;
  readonly createdBefore: string | null;
};

/** What an operation does not choose by that was started before a version knew of it. */
const ANY_RUN: Omit<RunFilter, 'namespace'> = {
  statuses: [],
  workflowType: null,
  taskQueue: null,
  workflowId: null,
  build: null,
  compensation: null,
  parentRunId: null,
  held: false,
  paused: false,
  unresolved: false,
  failureFingerprint: null,
  createdAfter: null,
  createdBefore: null,
};

export function bulkOf(row: BulkRow): BulkOperation {
  const { createdAfter, createdBefore, ...filter } = row.filter;
  return {
    operationId: row.operation_id,
    namespace: row.namespace,
    kind: row.kind,
    status: row.status,
    filter: {
      ...ANY_RUN,
      ...filter,
      createdAfter: createdAfter === null ? null : new Date(createdAfter),
      createdBefore: createdBefore === null ? null : new Date(createdBefore),
    },
    actor: row.actor,
    reason: row.reason,
    signalName: row.signal_name,
    rate: row.rate,
    matched: row.matched,
    isExact: row.is_exact,
    changed: row.changed,
    unchanged: row.unchanged,
    refused: row.refused,
    refusals: row.refusals,
    actions: row.actions.map(({ at, ...action }) => ({ ...action, actedAt: new Date(at) })),
    workedBy: row.worked_by,
    trouble: row.trouble,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    finishedAt: row.finished_at,
  };
}

export const bulkPayload = (row: BulkRow): Payload | null => payloadOf(row.payload, row.payload_encoding);
