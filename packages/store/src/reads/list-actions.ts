/** What people did to a run. The caller has checked the namespace. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { Failure, RecordedAction, RunActionKind, RunStatus } from '../model.js';

const LIST_ACTIONS = defineStatement(
  'list_actions',
  `select a.kind, a.acted_at, a.actor, a.reason, a.detail
  from perdure.run_actions a where a.run_id = $1::uuid
  order by a.seq desc
  limit 20`,
);

interface Row {
  readonly kind: RunActionKind;
  readonly acted_at: Date;
  readonly actor: string;
  readonly reason: string;
  readonly detail: { readonly status?: RunStatus; readonly failure?: Failure; readonly runId?: string } | null;
}

/** @returns the newest 20, newest first */
export async function listActions(db: Reader, runId: string): Promise<readonly RecordedAction[]> {
  const rows = await db.query<Row>(LIST_ACTIONS, [runId]);
  return rows.map(({ kind, acted_at, actor, reason, detail }) => ({
    kind,
    actedAt: acted_at,
    actor,
    reason,
    otherRunId: detail?.runId ?? null,
    previous: detail?.status === undefined ? null : { status: detail.status, failure: detail.failure ?? null },
  }));
}
