/** What explains a run's present state beyond its own row. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { Run } from '../model.js';
import type { RunFacts } from './queries.js';
import { STEP_COLUMNS, type StepRow, stepOf } from './step-row.js';

const CURRENT_STEPS = defineStatement(
  'current_steps',
  `select ${STEP_COLUMNS} from perdure.step_runs s
  where s.run_id = $1::uuid and s.attempt_key = 0 and (s.status = 'RUNNING' or s.next_retry_at is not null)
  order by s.seq
  limit 100`,
);

const RUN_FACTS = defineStatement(
  'run_facts',
  `select perdure.clock() as now,
    (select count(*)::int from perdure.step_runs s where s.run_id = $1::uuid) as attempts,
    (select count(*)::int from perdure.step_runs s where s.run_id = $1::uuid and s.attempt_key = 0 and s.status = 'COMPLETED') as completed_steps,
    (select count(*)::int from perdure.workers w where w.namespace = $2 and w.task_queue = $3 and w.status = 'ONLINE') as workers_online,
    (select count(*)::int from perdure.workers w where w.namespace = $2 and w.task_queue = $3 and w.status = 'ONLINE'
      and $4 = any(w.workflow_types)) as workers_with_type`,
);

interface FactsRow {
  readonly now: Date;
  readonly attempts: number;
  readonly completed_steps: number;
  readonly workers_online: number;
  readonly workers_with_type: number;
}

export async function readRunFacts(db: Reader, run: Run): Promise<RunFacts> {
  const [facts, steps] = await Promise.all([
    db.query<FactsRow>(RUN_FACTS, [run.runId, run.namespace, run.taskQueue, run.workflowType]),
    db.query<StepRow>(CURRENT_STEPS, [run.runId]),
  ]);
  const row = facts[0];
  if (row === undefined) throw new Error("Statement 'run_facts' answered without a row.");
  return {
    now: row.now,
    currentSteps: steps.map(stepOf),
    completedSteps: row.completed_steps,
    attempts: row.attempts,
    workersOnline: row.workers_online,
    workersWithType: row.workers_with_type,
  };
}
