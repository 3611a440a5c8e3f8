/**
 * The run that a refused start conflicts with: the run with its request id, else the open run of its workflow id, else the newest
 * run of that id.
 */
import type { StartRun, StartRunOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { byteaArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { RunStatus } from '../../model.js';
import { shownStatus } from '../../reads/run-pauses.js';

const JUDGE_STARTS = defineStatement(
  'judge_starts',
  `with command as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::text[],
      $9::uuid[])
      with ordinality as t(run_id, namespace, workflow_id, workflow_type, task_queue, request_id, input, input_encoding,
        fresh_run_id, ord)
  )
  select c.ord::int as ord, n.name is not null as has_namespace, e.run_id, e.workflow_id, ${shownStatus('e')} as status,
    coalesce(e.run_id = c.run_id, false) or coalesce(e.run_id = c.fresh_run_id, false)
      or coalesce(e.request_id = c.request_id, false) as same_request,
    e.workflow_type = c.workflow_type and e.task_queue = c.task_queue
      and e.input is not distinct from c.input and e.input_encoding is not distinct from c.input_encoding as equal
  from command c
  left join perdure.namespaces n on n.name = c.namespace
  left join lateral (
    select * from (
      (select 1 as rank, w.* from perdure.workflow_runs w
        where w.run_id in (c.run_id, c.fresh_run_id) and w.namespace = c.namespace limit 1)
      union all
      (select 2, w.* from perdure.workflow_runs w where w.namespace = c.namespace and w.request_id = c.request_id)
      union all
      (select 3, w.* from perdure.workflow_runs w
        where w.namespace = c.namespace and w.workflow_id = c.workflow_id
        order by w.finished_at is not null, w.run_id desc limit 1)
    ) known
    order by rank
    limit 1
  ) e on true
  order by c.ord`,
);

export interface JudgedRow {
  readonly has_namespace: boolean;
  readonly run_id: string | null;
  readonly workflow_id: string;
  readonly status: RunStatus;
  readonly same_request: boolean;
  readonly equal: boolean;
}

/** @returns for each start the run of its ids, in their order */
export function judgeStarts(db: Database, commands: readonly StartRun[]): Promise<readonly JudgedRow[]> {
  return db.query<JudgedRow>(JUDGE_STARTS, [
    plainArray(commands, (command) => command.runId),
    textArray(commands, (command) => command.namespace),
    textArray(commands, (command) => command.workflowId),
    textArray(commands, (command) => command.workflowType),
    textArray(commands, (command) => command.taskQueue),
    textArray(commands, (command) => command.requestId),
    byteaArray(commands, (command) => command.input?.data ?? null),
    textArray(commands, (command) => command.input?.encoding ?? null),
    plainArray(commands, (command) => command.freshRunId),
  ]);
}

/** @returns 'raced' when the start no longer conflicts with a run */
export function refusalOf(command: StartRun, found: JudgedRow | undefined): StartRunOutcome | 'raced' {
  if (found === undefined) throw new Error('A refused start was not judged.');
  if (!found.has_namespace) return { kind: 'namespace_not_found' };
  if (found.run_id === null) return 'raced';
  const open = !['COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED'].includes(found.status);
  const inTheWay =
    open ||
    command.reusePolicy === 'REJECT' ||
    (command.reusePolicy === 'ALLOW_IF_FAILED' && found.status === 'COMPLETED');
  if (!found.same_request && !inTheWay) return 'raced';
  // Under every policy an equal start is answered with the run that it would repeat.
  if (!found.equal) return { kind: 'already_exists', runId: found.run_id, status: found.status };
  return { kind: 'existing', runId: found.run_id, workflowId: found.workflow_id, status: found.status };
}
