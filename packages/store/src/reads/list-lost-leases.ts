/** The workers that a run has lost. The caller has checked the namespace. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { LostLease } from '../model.js';

const LIST_LOST_LEASES = defineStatement(
  'list_lost_leases',
  "select coalesce(perdure.lost_leases_of($1::uuid, 20), '[]') as leases",
);

/** @returns the latest 20, the latest last */
export async function listLostLeases(db: Reader, runId: string): Promise<readonly LostLease[]> {
  const [row] = await db.query<{ leases: readonly LostLease[] }>(LIST_LOST_LEASES, [runId]);
  return row?.leases ?? [];
}
