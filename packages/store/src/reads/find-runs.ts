/** Finds runs by run id or by workflow id (its open run, else the newest one). */
import type { Reader } from '../database/database.js';
import { plainArray, textArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';
import type { Run } from '../model.js';
import type { RunRef } from './queries.js';
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
  `select ${RUN_COLUMNS}, r.input, r.input_encoding, r.output, r.output_encoding
  ${LOOK_UP}
  left join perdure.workflow_runs r on r.run_id = found.run_id
  order by c.ord`,
);

const FIND_RUN_IDS = defineStatement('find_run_ids', `select found.run_id ${LOOK_UP} order by c.ord`);

function parameters(refs: readonly RunRef[]): [string, string, string] {
  return [
    textArray(refs, (ref) => ref.namespace),
    plainArray(refs, (ref) => ref.runId),
    textArray(refs, (ref) => ref.workflowId),
  ];
}

/** @returns one run with its payloads, or null, per reference, in their order */
export async function findRuns(db: Reader, refs: readonly RunRef[]): Promise<(Run | null)[]> {
  const rows = await db.query<RunRow | { run_id: null }>(FIND_RUNS, parameters(refs));
  return rows.map((row) => (row.run_id === null ? null : runOf(row)));
}

/** @returns one run id, or null, per reference, in their order */
export async function findRunIds(db: Reader, refs: readonly RunRef[]): Promise<(string | null)[]> {
  const rows = await db.query<{ run_id: string | null }>(FIND_RUN_IDS, parameters(refs));
  return rows.map((row) => row.run_id);
}
