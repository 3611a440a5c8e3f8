/**
 * Writes the start timeout and the chain timeout of runs that the same transaction has started, with the deadlines that follow from them. They
 * are in a table of their own (`run_limits`), so starts without them write nothing more.
 */
import type { Database } from '../../database/database.js';
import { plainArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';

interface Limited {
  readonly runId: string;
  /** 0: none. */
  readonly runTimeoutMs: number;
  readonly startTimeoutMs?: number;
  readonly chainTimeoutMs?: number;
}

const LIMIT_RUNS = defineStatement(
  'limit_runs',
  'select perdure.limit_runs($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[])',
);

/** Whether a start has limits that are written beside the run. */
export function isLimited({
  startTimeoutMs = 0,
  chainTimeoutMs = 0,
}: Omit<Limited, 'runId' | 'runTimeoutMs'>): boolean {
  return startTimeoutMs > 0 || chainTimeoutMs > 0;
}

/** @param started runs that the transaction has started; those without limits are left out */
export async function limitRuns(transaction: Database, started: readonly Limited[]): Promise<void> {
  const limited = started.filter(isLimited);
  if (limited.length === 0) return;
  await transaction.query(LIMIT_RUNS, [
    plainArray(limited, ({ runId }) => runId),
    plainArray(limited, ({ runTimeoutMs }) => runTimeoutMs),
    plainArray(limited, ({ startTimeoutMs = 0 }) => startTimeoutMs),
    plainArray(limited, ({ chainTimeoutMs = 0 }) => chainTimeoutMs),
  ]);
}
