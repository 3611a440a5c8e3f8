/** What people did to a run. The caller has checked the namespace. */
import type { Reader } from '../database/database.js';
import { plainArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';
import type { Failure, RecordedAction, RunActionKind, RunStatus, StepAttempt } from '../model.js';

const LIST_ACTIONS = defineStatement(
  'list_actions',
  `select a.kind, a.acted_at, a.actor, a.reason, a.detail
  from perdure.run_actions a where a.run_id = $1::uuid
  order by a.seq desc
  limit 20`,
);

const LIST_FORKS = defineStatement(
  'list_forks',
  `select a.kind, a.acted_at, a.actor, a.reason, a.detail
  from perdure.run_actions a where a.run_id = $1::uuid and a.kind = 'FORK'
  order by a.seq desc
  limit 20`,
);

const ACTIONS_OF_STEPS = defineStatement(
  'actions_of_steps',
  `select a.run_id, a.seq, a.kind, a.acted_at, a.actor, a.reason, a.detail
  from unnest($1::uuid[], $2::int[]) as c(run_id, seq)
  join perdure.run_actions a on a.run_id = c.run_id and a.seq = c.seq`,
);

interface Row {
  readonly kind: RunActionKind;
  readonly acted_at: Date;
  readonly actor: string;
  readonly reason: string;
  readonly detail: {
    readonly status?: RunStatus;
    readonly failure?: Failure;
    readonly runId?: string;
    readonly stepId?: string;
  } | null;
}

/** @returns the newest 20, newest first */
export async function listActions(db: Reader, runId: string): Promise<readonly RecordedAction[]> {
  const rows = await db.query<Row>(LIST_ACTIONS, [runId]);
  return rows.map(actionOf);
}

/** @returns the newest 20 forks of a run, newest first */
export async function listForks(db: Reader, runId: string): Promise<readonly RecordedAction[]> {
  return (await db.query<Row>(LIST_FORKS, [runId])).map(actionOf);
}

/** Adds to steps which a person has ended who it was, when and why. */
export async function withActions(db: Reader, steps: readonly StepAttempt[]): Promise<readonly StepAttempt[]> {
  const ended = steps.filter(({ actionSeq }) => actionSeq !== null);
  if (ended.length === 0) return steps;
  const rows = await db.query<Row & { readonly run_id: string; readonly seq: number }>(ACTIONS_OF_STEPS, [
    plainArray(ended, (step) => step.runId),
    plainArray(ended, (step) => step.actionSeq),
  ]);
  const actions = new Map(rows.map((row) => [`${row.run_id}/${row.seq}`, actionOf(row)]));
  return steps.map((step) => {
    const byHand = step.actionSeq === null ? undefined : actions.get(`${step.runId}/${step.actionSeq}`);
    return byHand === undefined ? step : { ...step, byHand };
  });
}

function actionOf({ kind, acted_at, actor, reason, detail }: Row): RecordedAction {
  return {
    kind,
    actedAt: acted_at,
    actor,
    reason,
    otherRunId: detail?.runId ?? null,
    previous: detail?.status === undefined ? null : { status: detail.status, failure: detail.failure ?? null },
    stepId: detail?.stepId ?? null,
  };
}
