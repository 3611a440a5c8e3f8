/** Where the chain of a run that has continued has come to. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';

const CHAIN_END = defineStatement('chain_end', 'select perdure.chain_end($1::uuid) as run_id');

/** @returns null when the run was not continued, or is deleted */
export async function chainEnd(db: Reader, runId: string): Promise<string | null> {
  const [row] = await db.query<{ run_id: string | null }>(CHAIN_END, [runId]);
  return row?.run_id ?? null;
}
