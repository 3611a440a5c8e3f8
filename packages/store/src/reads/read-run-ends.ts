/** How runs ended, if they have: what a caller that waits for a result needs. */

import type { Reader } from '../database/database.js';
import { plainArray, textArray } from '../database/literals.js';
import { payloadOf } from '../database/payload-columns.js';
import { defineStatement } from '../database/statement.js';
import type { Failure, RunStatus } from '../model.js';
import type { RunEnd } from './queries.js';
import { DEFERRED, type Deferred, MAX_READ_BYTES } from './read-limits.js';

const READ_RUN_ENDS = defineStatement(
  'read_run_ends',
  `select r.ord::int as ord, r.run_id, r.workflow_id, r.status, r.finished_at is not null as ended, r.output,
    r.output_encoding, r.failure, r.cancel_reason
  from (
    select c.ord, w.run_id, w.workflow_id, w.status, w.finished_at, w.output, w.output_encoding, w.failure, w.cancel_reason,
      sum(coalesce(octet_length(w.output), 0) + coalesce(octet_length(w.failure::text), 0))
        over (order by c.ord rows unbounded preceding) as bytes
    from unnest($1::text[], $2::uuid[]) with ordinality as c(namespace, run_id, ord)
    left join perdure.workflow_runs w on w.run_id = c.run_id and w.namespace = c.namespace
  ) r
  where r.ord = 1 or r.bytes <= $3::float8
  order by r.ord`,
);

interface Row {
  readonly ord: number;
  readonly run_id: string | null;
  readonly workflow_id: string;
  readonly status: RunStatus;
  readonly ended: boolean;
  readonly output: Uint8Array | null;
  readonly output_encoding: string | null;
  readonly failure: Failure | null;
  readonly cancel_reason: string | null;
}

export interface FoundRun {
  readonly runId: string;
  readonly workflowId: string;
  /** Null while the run is open. */
  readonly end: RunEnd | null;
}

/**
 * @param maxBytes of outputs and failures in all
 * @returns the run, or null, for each id, in their order; the first is never deferred
 */
export async function readRunEnds(
  db: Reader,
  runs: readonly { readonly namespace: string; readonly runId: string }[],
  maxBytes = MAX_READ_BYTES,
): Promise<(FoundRun | Deferred | null)[]> {
  const rows = await db.query<Row>(READ_RUN_ENDS, [
    textArray(runs, (run) => run.namespace),
    plainArray(runs, (run) => run.runId),
    maxBytes,
  ]);
  const found = new Array<FoundRun | Deferred | null>(runs.length).fill(DEFERRED);
  for (const row of rows) found[row.ord - 1] = foundOf(row);
  return found;
}

function foundOf(row: Row): FoundRun | null {
  if (row.run_id === null) return null;
  const end = row.ended
    ? {
        status: row.status,
        output: payloadOf(row.output, row.output_encoding),
        failure: row.failure,
        cancelReason: row.cancel_reason,
      }
    : null;
  return { runId: row.run_id, workflowId: row.workflow_id, end };
}
