/** Which of these runs have ended: one statement for all callers that wait for a result. */
import type { Reader } from '../database/database.js';
import { plainArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';

const ENDED_AMONG = defineStatement(
  'ended_among',
  'select r.run_id from perdure.workflow_runs r where r.run_id = any($1::uuid[]) and r.finished_at is not null',
);

export async function endedAmong(db: Reader, runIds: readonly string[]): Promise<readonly string[]> {
  if (runIds.length === 0) return [];
  const rows = await db.query<{ run_id: string }>(ENDED_AMONG, [plainArray(runIds)]);
  return rows.map((row) => row.run_id);
}
