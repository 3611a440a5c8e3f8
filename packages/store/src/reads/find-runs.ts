/** Finds runs by run id or by workflow id (its open run, else the newest one). */
import type { Reader } from '../database/database.js';
import { plainArray, textArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';
import type { Run } from '../model.js';
import type { RunRef } from './queries.js';
import { DEFERRED, type Deferred, MAX_READ_BYTES } from './read-limits.js';
import { RUN_COLUMNS, type RunRow, runOf } from './run-row.js';

/** One index serves both look-ups: an open run sorts under the nil UUID, ended ones under their own id. */
const LOOK_UP = `from unnest($1::text[], $2::uuid[], $3::text[]) with ordinality as c(namespace, run_id, workflow_id, ord)
  left join lateral (
    (select w.run_id from perdure.workflow_runs w where c.run_id is not null and w.run_id = c.run_id and w.namespace = c.namespace)
    union all
    (select w.run_id from perdure.workflow_runs w
      where c.workflow_id is not null and w.namespace = c.namespace and w.workflow_id = c.workflow_id
      order by w.finished_at is not null, w.run_id desc limit 1)
  ) found on true`;

const FIND_RUNS = defineStatement(
  'find_runs',
  `select r.ord::int as ord, ${RUN_COLUMNS}, r.input, r.input_encoding, r.output, r.output_encoding
  from (
    select c.ord, w.*, sum(coalesce(octet_length(w.input), 0) + coalesce(octet_length(w.output), 0)
      + coalesce(octet_length(w.failure::text), 0)) over (order by c.ord rows unbounded preceding) as bytes
    ${LOOK_UP}
    left join perdure.workflow_runs w on w.run_id = found.run_id
  ) r
  where r.ord = 1 or r.bytes <= $4::float8
  order by r.ord`,
);

/** Without payloads, for callers that read one run repeatedly. */
const FIND_RUN_STATE = defineStatement(
  'find_run_state',
  `select ${RUN_COLUMNS} from perdure.workflow_runs r where r.run_id = $1::uuid and r.namespace = $2`,
);

/**
 * @param maxBytes of payloads and failures in all
 * @returns one run with its payloads, or null, per reference, in their order; the first is never deferred
 */
export async function findRuns(
  db: Reader,
  refs: readonly RunRef[],
  maxBytes = MAX_READ_BYTES,
): Promise<(Run | Deferred | null)[]> {
  const rows = await db.query<{ ord: number } & (RunRow | { run_id: null })>(FIND_RUNS, [
    textArray(refs, (ref) => ref.namespace),
    plainArray(refs, (ref) => ref.runId),
    textArray(refs, (ref) => ref.workflowId),
    maxBytes,
  ]);
  const found = new Array<Run | Deferred | null>(refs.length).fill(DEFERRED);
  for (const row of rows) found[row.ord - 1] = row.run_id === null ? null : runOf(row);
  return found;
}

/** @returns the run without its payloads, or null */
export async function findRunState(
  db: Reader,
  { namespace, runId }: { readonly namespace: string; readonly runId: string },
): Promise<Run | null> {
  const [row] = await db.query<RunRow>(FIND_RUN_STATE, [runId, namespace]);
  return row === undefined ? null : runOf(row);
}
