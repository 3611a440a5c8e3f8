/**
 * Reads the memo of runs: the latest attempt of each step, in delivery order; entries without a delivered result come last, steps
 * that were cut among them. The order is total and does not change while a lease is held, so a page is addressed by the number of
 * entries before it. Sizes are summed from the stored lengths; only the entries of the page are fetched from out-of-line storage.
 *
 * Outcomes that were taken together (see take-arrivals) share a place; timers come in the order in which they were due, all others in
 * the order in which they arrived.
 */
import type { MemoCursor } from '../commands.js';
import type { Reader } from '../database/database.js';
import { plainArray, textArray } from '../database/literals.js';
import { payloadOf } from '../database/payload-columns.js';
import { defineStatement } from '../database/statement.js';
import type { Failure, FenceOutcome, LeaseRef, MemoEntry, StepKind, StepStatus } from '../model.js';
import { type BorrowingRow, withBorrowed } from './borrowed-payloads.js';
import type { MemoPage } from './queries.js';
import { withReceivedUpdates } from './received-updates.js';

export interface MemoPageLimits {
  /** Bytes of outputs, failures and heartbeat details in one page, exceeded by at most one entry; at least 1. */
  readonly memoPageBytes: number;
  /** Entries in one page; at least 1. */
  readonly memoPageEntries: number;
}

/** Delivery order; see above. */
const DELIVERED = `s.is_cut or s.event_seq is null, s.lease_token, s.event_seq,
      case when s.kind = 'SLEEP' then s.fires_at else s.finished_at end, s.seq`;

const READ_MEMO = defineStatement(
  'read_memo',
  `select m.run_id, m.step_id, m.seq, m.kind, m.attempt_number, m.counted_attempt, m.status, m.output, m.output_encoding,
    m.failure, m.lease_token, m.event_seq, m.is_cut, m.finished_at, m.next_retry_at, m.fires_at, m.payload_run_id, m.payload_attempt,
    m.place::int as place, m.bytes::float8 as bytes, m.total::int as total,
    m.last_heartbeat as heartbeat, m.last_heartbeat_encoding as heartbeat_encoding
  from unnest($1::uuid[]) as run(run_id)
  cross join lateral (
    select s.*, h.heartbeat as last_heartbeat, h.heartbeat_encoding as last_heartbeat_encoding, count(*) over () as total,
      row_number() over delivered as place,
      sum(coalesce(octet_length(s.output), s.payload_bytes, 0) + coalesce(s.failure_bytes, 0)
        + coalesce(octet_length(h.heartbeat), 0) + 100) over delivered as bytes
    from perdure.step_runs s
    left join lateral (
      select e.heartbeat, e.heartbeat_encoding from perdure.step_runs e
      where e.run_id = s.run_id and e.step_id = s.step_id and e.heartbeat is not null and not e.is_cut
        and s.status <> 'COMPLETED'
      order by e.attempt_number desc limit 1
    ) h on s.status <> 'COMPLETED'
    where s.run_id = run.run_id and s.attempt_key = 0
    window delivered as (order by ${DELIVERED}
      rows unbounded preceding)
  ) m
  where m.place > $2 and m.place <= $2 + $3 and (m.bytes <= $4::float8 + $5::float8 or m.place = $2 + 1)
  order by m.run_id, m.place`,
);

const READ_MEMO_OF = defineStatement(
  'read_memo_of',
  `select s.run_id, s.step_id, s.seq, s.kind, s.attempt_number, s.counted_attempt, s.status, s.output, s.output_encoding,
    s.failure, s.lease_token, s.event_seq, s.is_cut, s.finished_at, s.next_retry_at, s.fires_at, s.heartbeat, s.heartbeat_encoding,
    s.payload_run_id, s.payload_attempt
  from unnest($2::text[]) as c(step_id)
  join perdure.step_runs s on s.run_id = $1::uuid and s.step_id = c.step_id and s.attempt_key = 0
  order by ${DELIVERED}`,
);

const CHECK_LEASE = defineStatement(
  'check_lease',
  `select r.status = 'RUNNING' and r.lease_token = $3 as held from perdure.workflow_runs r
  where r.run_id = $1 and r.namespace = $2`,
);

interface Row extends BorrowingRow {
  readonly run_id: string;
  readonly step_id: string;
  readonly seq: number;
  readonly kind: StepKind;
  readonly attempt_number: number;
  readonly counted_attempt: number;
  readonly status: StepStatus;
  readonly output: Uint8Array | null;
  readonly output_encoding: string | null;
  readonly failure: Failure | null;
  readonly lease_token: number;
  readonly event_seq: number | null;
  readonly is_cut: boolean;
  readonly finished_at: Date | null;
  readonly next_retry_at: Date | null;
  readonly fires_at: Date | null;
  readonly heartbeat: Uint8Array | null;
  readonly heartbeat_encoding: string | null;
}

interface PagedRow extends Row {
  readonly place: number;
  readonly bytes: number;
  readonly total: number;
}

/** Before the first page. */
export const MEMO_START: MemoCursor = { entries: 0, bytes: 0 };

/** The first page of each run's memo; runs without steps are not in the map. */
export async function readMemos(
  db: Reader,
  runIds: readonly string[],
  limits: MemoPageLimits,
): Promise<ReadonlyMap<string, MemoPage>> {
  if (runIds.length === 0) return new Map();
  return pagesOf(db, await readPage(db, runIds, MEMO_START, limits));
}

/** A further page of the memo of one leased run. */
export async function readMemo(
  db: Reader,
  lease: LeaseRef,
  cursor: MemoCursor,
  limits: MemoPageLimits,
): Promise<FenceOutcome | { readonly kind: 'page'; readonly page: MemoPage }> {
  const refusal = await checkLease(db, lease);
  if (refusal !== undefined) return refusal;
  const pages = await pagesOf(db, await readPage(db, [lease.runId], cursor, limits));
  return { kind: 'page', page: pages.get(lease.runId) ?? { memo: [], next: null } };
}

/** The memo entries of some steps of one leased run, in the order of the memo. */
export async function readMemoOf(
  db: Reader,
  lease: LeaseRef,
  stepIds: readonly string[],
): Promise<FenceOutcome | { readonly kind: 'page'; readonly page: MemoPage }> {
  const refusal = await checkLease(db, lease);
  if (refusal !== undefined) return refusal;
  const rows = await withBorrowed(db, await db.query<Row>(READ_MEMO_OF, [lease.runId, textArray(stepIds)]));
  const [memo] = await withReceivedUpdates(db, [rows.map(entryOf)]);
  return { kind: 'page', page: { memo: memo ?? [], next: null } };
}

async function checkLease(db: Reader, lease: LeaseRef): Promise<FenceOutcome | undefined> {
  const [run] = await db.query<{ held: boolean }>(CHECK_LEASE, [lease.runId, lease.namespace, lease.leaseToken]);
  if (run === undefined) return { kind: 'run_not_found' };
  return run.held ? undefined : { kind: 'lease_lost' };
}

function readPage(db: Reader, runIds: readonly string[], cursor: MemoCursor, limits: MemoPageLimits) {
  return db.query<PagedRow>(READ_MEMO, [
    plainArray(runIds),
    cursor.entries,
    limits.memoPageEntries,
    cursor.bytes,
    limits.memoPageBytes,
  ]);
}

async function pagesOf(db: Reader, rows: readonly PagedRow[]): Promise<Map<string, MemoPage>> {
  const complete = await withBorrowed(db, rows);
  const [entries = []] = await withReceivedUpdates(db, [complete.map(entryOf)]);
  const pages = new Map<string, { memo: MemoEntry[]; next: MemoCursor | null }>();
  rows.forEach((row, index) => {
    let page = pages.get(row.run_id);
    if (page === undefined) {
      page = { memo: [], next: null };
      pages.set(row.run_id, page);
    }
    page.memo.push(entries[index] as MemoEntry);
    page.next = row.place < row.total ? { entries: row.place, bytes: row.bytes } : null;
  });
  return pages;
}

function entryOf(row: Row): MemoEntry {
  return {
    runId: row.run_id,
    stepId: row.step_id,
    seq: row.seq,
    kind: row.kind,
    attemptNumber: row.attempt_number,
    countedAttempt: row.counted_attempt,
    status: row.status,
    output: payloadOf(row.output, row.output_encoding),
    failure: row.failure,
    leaseToken: row.lease_token,
    eventSeq: row.event_seq,
    isCut: row.is_cut,
    finishedAt: row.finished_at,
    nextRetryAt: row.next_retry_at,
    firesAt: row.fires_at,
    heartbeat: payloadOf(row.heartbeat, row.heartbeat_encoding),
  };
}
