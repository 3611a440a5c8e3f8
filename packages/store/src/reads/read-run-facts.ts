/** What explains the present state of a run, beside its own row. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { DispatchKind, Run } from '../model.js';
import { REAPER_SILENCE_MS } from '../transitions/announce-reapers.js';
import { listActions } from './list-actions.js';
import { listLostLeases } from './list-lost-leases.js';
import { getWorker } from './list-workers.js';
import type { RunFacts } from './queries.js';
import { STEP_COLUMNS, type StepRow, stepOf } from './step-row.js';

/** Larger heartbeat details are omitted, because a hundred of them must fit one answer. In bytes. */
const MAX_DETAIL_BYTES = 16_384;

const CURRENT_STEPS = defineStatement(
  'current_steps',
  `select ${STEP_COLUMNS}, case when octet_length(s.heartbeat) <= $2::int then s.heartbeat end as heartbeat, s.heartbeat_encoding
  from perdure.step_runs s
  where s.run_id = $1::uuid and s.attempt_key = 0 and (s.status = 'RUNNING' or s.next_retry_at is not null)
  order by s.seq
  limit 100`,
);

const FAILED_STEPS = defineStatement(
  'failed_steps',
  `select ${STEP_COLUMNS} from perdure.step_runs s
  where s.run_id = $1::uuid and s.attempt_key = 0 and s.status = 'FAILED' and s.next_retry_at is null and not s.is_cut
  order by s.finished_at desc, s.seq desc
  limit 20`,
);

const RUN_FACTS = defineStatement(
  'run_facts',
  `select perdure.clock() as now, s.*,
    (select count(*)::int from perdure.workers w where w.namespace = $2 and w.task_queue = $3 and w.status = 'ONLINE') as workers_online,
    (select count(*)::int from perdure.workers w where w.namespace = $2 and w.task_queue = $3 and w.status = 'ONLINE'
      and $4 = any(w.workflow_types)) as workers_with_type,
    (select coalesce(jsonb_agg(jsonb_build_object('kind', p.kind, 'name', p.name, 'paused_at', (extract(epoch from p.paused_at) * 1000)::float8,
        'paused_by', p.paused_by, 'reason', p.reason) order by p.kind), '[]') from perdure.dispatch_pauses p
      where p.namespace = $2 and p.name = case p.kind when 'TASK_QUEUE' then $3 else $4 end) as pauses,
    (select count(*)::int from perdure.reapers r
      where r.last_seen_at >= perdure.clock() - $5::int * interval '1 ms') as reapers_alive
  from (select count(*)::int as attempts,
      (count(*) filter (where s.attempt_key = 0 and s.status = 'COMPLETED' and not s.is_cut))::int as completed_steps,
      max(s.finished_at) as last_step_ended_at
    from perdure.step_runs s where s.run_id = $1::uuid) s`,
);

interface FactsRow {
  readonly now: Date;
  readonly attempts: number;
  readonly completed_steps: number;
  readonly last_step_ended_at: Date | null;
  readonly workers_online: number;
  readonly workers_with_type: number;
  readonly reapers_alive: number;
  readonly pauses: readonly {
    readonly kind: DispatchKind;
    readonly name: string;
    /** Ms since 1970. */
    readonly paused_at: number;
    readonly paused_by: string;
    readonly reason: string;
  }[];
}

export async function readRunFacts(db: Reader, run: Run): Promise<RunFacts> {
  const { runId, namespace, taskQueue, workflowType, leasedBy } = run;
  const [facts, currentSteps, failedSteps, holder, actions, lostLeases] = await Promise.all([
    db.query<FactsRow>(RUN_FACTS, [runId, namespace, taskQueue, workflowType, REAPER_SILENCE_MS]),
    db.query<StepRow>(CURRENT_STEPS, [runId, MAX_DETAIL_BYTES]),
    run.status === 'FAILED' ? db.query<StepRow>(FAILED_STEPS, [runId]) : [],
    leasedBy === null ? null : getWorker(db, { workerId: leasedBy, namespace }),
    listActions(db, runId),
    listLostLeases(db, runId),
  ]);
  const row = facts[0];
  if (row === undefined) throw new Error("Statement 'run_facts' answered without a row.");
  return {
    now: row.now,
    currentSteps: currentSteps.map(stepOf),
    completedSteps: row.completed_steps,
    attempts: row.attempts,
    workersOnline: row.workers_online,
    workersWithType: row.workers_with_type,
    holder,
    lastStepEndedAt: row.last_step_ended_at,
    failedSteps: failedSteps.map(stepOf),
    reapersAlive: row.reapers_alive,
    actions,
    lostLeases,
    pauses: row.pauses.map((pause) => ({
      namespace,
      kind: pause.kind,
      name: pause.name,
      pausedAt: new Date(pause.paused_at),
      pausedBy: pause.paused_by,
      reason: pause.reason,
    })),
  };
}
