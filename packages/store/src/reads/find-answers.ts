/** What has become of updates: for callers that wait for the answer. */
import type { Reader } from '../database/database.js';
import { plainArray, textArray } from '../database/literals.js';
import { payloadOf } from '../database/payload-columns.js';
import { defineStatement } from '../database/statement.js';
import type { Failure, Payload, RunStatus, UpdateAnswerKind } from '../model.js';
import { DEFERRED, type Deferred, MAX_READ_BYTES } from './read-limits.js';

/** Names an update: its run and its request id. */
export interface UpdateRef {
  readonly namespace: string;
  readonly runId: string;
  readonly requestId: string;
}

/** What the code of a run has answered to an update. */
export type UpdateAnswer =
  | { readonly kind: 'COMPLETED'; readonly output: Payload | null }
  | { readonly kind: 'FAILED'; readonly failure: Failure }
  | { readonly kind: 'REFUSED'; readonly failure: Failure };

export interface FoundUpdate {
  readonly seq: number;
  /** Null: not answered. */
  readonly answer: UpdateAnswer | null;
  /** The run has ended: an update that is not answered never will be. */
  readonly hasEnded: boolean;
  readonly status: RunStatus;
}

/** One snapshot: when the end of the run is visible, every answer before it is. */
const FIND_ANSWERS = defineStatement(
  'find_answers',
  `select r.* from (
    select c.ord::int as ord, w.status, w.finished_at is not null as ended, u.seq, u.answer, u.output, u.output_encoding, u.failure,
      sum(coalesce(octet_length(u.output), 0) + coalesce(octet_length(u.failure::text), 0))
        over (order by c.ord rows unbounded preceding) as bytes
    from unnest($1::text[], $2::uuid[], $3::text[]) with ordinality as c(namespace, run_id, request_id, ord)
    left join lateral (
      select * from perdure.workflow_runs x where x.run_id = c.run_id and x.namespace = c.namespace limit 1) w on true
    left join lateral (
      select * from perdure.run_updates x where x.run_id = w.run_id and x.request_id = c.request_id limit 1) u on true
  ) r
  where r.ord = 1 or r.bytes <= $4::float8
  order by r.ord`,
);

/** Which of these updates are answered: one statement for all callers that wait. */
const ANSWERED_AMONG = defineStatement(
  'answered_among',
  `select c.ord::int as ord
  from unnest($1::uuid[], $2::text[]) with ordinality as c(run_id, request_id, ord)
  cross join lateral (
    select 1 from perdure.run_updates x where x.run_id = c.run_id and x.request_id = c.request_id and x.answer is not null limit 1) u`,
);

interface Row {
  readonly ord: number;
  readonly status: RunStatus;
  readonly ended: boolean;
  readonly seq: number | null;
  readonly answer: UpdateAnswerKind | null;
  readonly output: Uint8Array | null;
  readonly output_encoding: string | null;
  readonly failure: Failure | null;
}

/** @returns the update, or null, for each reference, in their order; the first is never deferred */
export async function findAnswers(
  db: Reader,
  refs: readonly UpdateRef[],
  maxBytes = MAX_READ_BYTES,
): Promise<(FoundUpdate | Deferred | null)[]> {
  const rows = await db.query<Row>(FIND_ANSWERS, [
    textArray(refs, (ref) => ref.namespace),
    plainArray(refs, (ref) => ref.runId),
    textArray(refs, (ref) => ref.requestId),
    maxBytes,
  ]);
  const found = new Array<FoundUpdate | Deferred | null>(refs.length).fill(DEFERRED);
  for (const row of rows) {
    found[row.ord - 1] = foundOf(row);
  }
  return found;
}

function foundOf(row: Row): FoundUpdate | null {
  if (row.seq !== null) return { seq: row.seq, answer: answerOf(row), hasEnded: row.ended, status: row.status };
  // The successor of the run has it.
  return row.status === 'CONTINUED' ? { seq: 0, answer: null, hasEnded: true, status: row.status } : null;
}

/** @returns those that are answered */
export async function answeredAmong<Ref extends { readonly runId: string; readonly requestId: string }>(
  db: Reader,
  refs: readonly Ref[],
): Promise<readonly Ref[]> {
  if (refs.length === 0) return [];
  const rows = await db.query<{ ord: number }>(ANSWERED_AMONG, [
    plainArray(refs, (ref) => ref.runId),
    textArray(refs, (ref) => ref.requestId),
  ]);
  return rows.map(({ ord }) => refs[ord - 1] as Ref);
}

function answerOf(row: Row): UpdateAnswer | null {
  switch (row.answer) {
    case null:
      return null;
    case 'COMPLETED':
      return { kind: 'COMPLETED', output: payloadOf(row.output, row.output_encoding) };
    case 'FAILED':
    case 'REFUSED':
      return { kind: row.answer, failure: row.failure as Failure };
  }
}
