/** Pauses of runs, as readers are shown them. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { Failure, RunPause } from '../model.js';

/** The status that readers are shown, of a row of `perdure.workflow_runs`: PAUSED stands for what a paused run would wait for. */
export const shownStatus = (row: string): string =>
  `case when ${row}.paused_at is not null and ${row}.status in ('PENDING', 'SLEEPING', 'WAITING') then 'PAUSED' else ${row}.status end`;

/** The pause that lasts, of a run aliased `r`; looked up only for a run that is paused. */
export const OPEN_PAUSE = `case when r.paused_at is not null and r.finished_at is null then (
      select jsonb_build_object('paused_at', (extract(epoch from p.paused_at) * 1000)::float8, 'paused_by', p.paused_by, 'reason', p.reason,
        'failure', p.failure)
      from perdure.run_pauses p where p.run_id = r.run_id and p.resumed_at is null order by p.seq desc limit 1) end`;

export interface OpenPauseJson {
  /** Ms since 1970. */
  readonly paused_at: number;
  readonly paused_by: string;
  readonly reason: string;
  readonly failure: Failure | null;
}

export function openPauseOf(row: OpenPauseJson | null): RunPause | null {
  if (row === null) return null;
  return {
    pausedAt: new Date(row.paused_at),
    pausedBy: row.paused_by,
    reason: row.reason,
    failure: row.failure,
    resumedAt: null,
    resumedBy: null,
  };
}

const READ_RUN_PAUSES = defineStatement(
  'read_run_pauses',
  `select * from (
    select p.seq, p.paused_at, p.paused_by, p.reason, p.failure, p.resumed_at, p.resumed_by
    from perdure.run_pauses p where p.run_id = $1::uuid order by p.seq desc limit 100
  ) latest order by seq`,
);

interface Row {
  readonly paused_at: Date;
  readonly paused_by: string;
  readonly reason: string;
  readonly failure: Failure | null;
  readonly resumed_at: Date | null;
  readonly resumed_by: string | null;
}

/** @returns the latest 100 pauses of the run, the oldest first */
export async function readRunPauses(db: Reader, runId: string): Promise<readonly RunPause[]> {
  const rows = await db.query<Row>(READ_RUN_PAUSES, [runId]);
  return rows.map((row) => ({
    pausedAt: row.paused_at,
    pausedBy: row.paused_by,
    reason: row.reason,
    failure: row.failure,
    resumedAt: row.resumed_at,
    resumedBy: row.resumed_by,
  }));
}
