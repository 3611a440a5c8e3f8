/**
 * Pauses and resumes task queues and workflow types: once a pause is acknowledged no server leases a run of it. Starts are accepted and
 * wait; runs that are leased continue.
 *
 * Race closed: a claim whose snapshot is older than the pause. The pause waits until all statements that lease runs have committed, and
 * keeps later ones waiting until it has; see `0006-pauses.ts`. A few ms as a rule.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { DispatchKind, DispatchPause } from '../model.js';

const PAUSE_DISPATCH = defineStatement(
  'pause_dispatch',
  'select perdure.pause_dispatch($1::text, $2::text, $3::text, $4::text, $5::text) as verdict',
);

const RESUME_DISPATCH = defineStatement(
  'resume_dispatch',
  `with resumed as (
    delete from perdure.dispatch_pauses p where p.namespace = $1 and p.kind = $2 and p.name = $3 returning 1
  )
  select exists (select 1 from perdure.namespaces n where n.name = $1) as has_namespace,
    exists (select 1 from resumed) as resumed,
    to_jsonb(case when $2 = 'TASK_QUEUE' then array[$3::text] else array(
      select distinct w.task_queue from perdure.workers w
      where w.namespace = $1 and w.status <> 'OFFLINE' and $3 = any(w.workflow_types) limit 10000) end) as queues`,
);

export type PauseDispatch = Omit<DispatchPause, 'pausedAt'>;
export type PauseDispatchOutcome = { readonly kind: 'paused' | 'already_paused' | 'namespace_not_found' };

export async function pauseDispatch(
  db: Database,
  { namespace, kind, name, pausedBy, reason }: PauseDispatch,
): Promise<PauseDispatchOutcome> {
  const [row] = await db.query<{ verdict: PauseDispatchOutcome['kind'] }>(PAUSE_DISPATCH, [
    namespace,
    kind,
    name,
    pausedBy,
    reason,
  ]);
  if (row === undefined) throw new Error("Statement 'pause_dispatch' answered without a row.");
  return { kind: row.verdict };
}

export interface ResumeDispatch {
  readonly namespace: string;
  readonly kind: DispatchKind;
  readonly name: string;
}
export type ResumeDispatchOutcome =
  | { readonly kind: 'namespace_not_found' | 'not_paused' }
  /** `taskQueues`: whose runs may be claimable now. */
  | { readonly kind: 'resumed'; readonly taskQueues: readonly string[] };

export async function resumeDispatch(
  db: Database,
  { namespace, kind, name }: ResumeDispatch,
): Promise<ResumeDispatchOutcome> {
  const [row] = await db.query<{ has_namespace: boolean; resumed: boolean; queues: string[] }>(RESUME_DISPATCH, [
    namespace,
    kind,
    name,
  ]);
  if (row?.has_namespace !== true) return { kind: 'namespace_not_found' };
  return row.resumed ? { kind: 'resumed', taskQueues: row.queues } : { kind: 'not_paused' };
}
