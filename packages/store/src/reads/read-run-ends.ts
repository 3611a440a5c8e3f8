/** How runs ended, if they have: what someone who waits for a result wants to know. */

import type { Reader } from '../database/database.js';
import { plainArray, textArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';
import type { Failure, RunStatus } from '../model.js';
import type { RunEnd } from './queries.js';
import { payloadOf } from './run-row.js';

const READ_RUN_ENDS = defineStatement(
  'read_run_ends',
  `select r.run_id, r.workflow_id, r.status, r.finished_at is not null as finished, r.output, r.output_encoding, r.failure,
    r.cancel_reason
  from unnest($1::text[], $2::uuid[]) with ordinality as c(namespace, run_id, ord)
  left join perdure.workflow_runs r on r.run_id = c.run_id and r.namespace = c.namespace
  order by c.ord`,
);

interface Row {
  readonly run_id: string | null;
  readonly workflow_id: string;
  readonly status: RunStatus;
  readonly finished: boolean;
  readonly output: Uint8Array | null;
  readonly output_encoding: string | null;
  readonly failure: Failure | null;
  readonly cancel_reason: string | null;
}

export interface FoundRun {
  readonly runId: string;
  readonly workflowId: string;
  /** Null while it goes on. */
  readonly end: RunEnd | null;
}

/** @returns what was found, or null, per run, in their order */
export async function readRunEnds(
  db: Reader,
  runs: readonly { readonly namespace: string; readonly runId: string }[],
): Promise<(FoundRun | null)[]> {
  const rows = await db.query<Row>(READ_RUN_ENDS, [
    textArray(runs, (run) => run.namespace),
    plainArray(runs, (run) => run.runId),
  ]);
  return rows.map((row) => {
    if (row.run_id === null) return null;
    const end = row.finished
      ? {
          status: row.status,
          output: payloadOf(row.output, row.output_encoding),
          failure: row.failure,
          cancelReason: row.cancel_reason,
        }
      : null;
    return { runId: row.run_id, workflowId: row.workflow_id, end };
  });
}
