/**
 * Closes children that their parent no longer waits for, each as its start says (`parent_close`): it is cancelled, terminated or left
 * alone. These are the open children of a parent that has ended, and of a step that a cancel or a cut has ended.
 *
 * In bounded chunks, in the order of the ids. A parent that has ended starts no more children, so once all chunks are done nothing is
 * left, and its mark (`has_children`) is taken away. So are the marks of cuts (`child_cuts`) that were there at the beginning: a later cut has
 * another one. When this is interrupted, the sweep does it again; what was closed is not closed twice. The children of a closed child are
 * closed with its own end.
 */
import type { CancelRunOutcome, TerminateRunOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { ParentClose } from '../../model.js';
import { cancelRuns } from '../runs/cancel-runs.js';
import { terminateRuns } from '../runs/terminate-runs.js';

export type ClosedChild = { readonly namespace: string; readonly runId: string; readonly reason: string } & (
  | { readonly close: 'CANCEL'; readonly outcome: CancelRunOutcome }
  | { readonly close: 'TERMINATE'; readonly outcome: TerminateRunOutcome }
);

/** Most children that are closed at once. */
const CHUNK = 500;

const LEFT_CHILDREN = defineStatement(
  'left_children',
  `select c.run_id, c.namespace, c.parent_close, p.run_id as parent_run_id, p.finished_at is not null as parent_ended
  from unnest($1::uuid[]) as a(run_id)
  join perdure.workflow_runs p on p.run_id = a.run_id
  join perdure.workflow_runs c on c.parent_run_id = p.run_id
  where c.finished_at is null and c.run_id > $2::uuid
    and (c.parent_close = 'TERMINATE' or (c.parent_close = 'CANCEL' and c.cancel_requested_at is null))
    and (p.finished_at is not null or not exists (
      select 1 from perdure.step_runs s
      where s.run_id = p.run_id and s.step_id = c.parent_step_id and s.attempt_key = 0 and s.status = 'RUNNING'
        and s.awaits = coalesce(c.first_run_id, c.run_id)::text))
  order by c.run_id
  limit $3`,
);

const MARK_CLOSED = defineStatement(
  'mark_closed',
  `with locked as materialized (
    select r.run_id from perdure.workflow_runs r
    where r.run_id = any($1::uuid[]) and r.finished_at is not null and r.has_children
    order by r.run_id
    for no key update
  )
  update perdure.workflow_runs r set has_children = null from locked l where r.run_id = l.run_id`,
);

const CUT_MARKS = defineStatement(
  'cut_marks',
  `select c.mark from perdure.child_cuts c where c.run_id = any($1::uuid[])`,
);

const FORGET_CUTS = defineStatement(
  'forget_cuts',
  `with locked as materialized (
    select c.run_id from perdure.child_cuts c
    where c.run_id = any($1::uuid[]) and c.mark = any($2::uuid[])
    order by c.run_id
    for update
  )
  delete from perdure.child_cuts c using locked l where c.run_id = l.run_id`,
);

interface Row {
  readonly run_id: string;
  readonly namespace: string;
  readonly parent_close: Exclude<ParentClose, 'ABANDON'>;
  readonly parent_run_id: string;
  readonly parent_ended: boolean;
}

/** @returns what became of each child that was closed now */
export async function closeChildren(db: Database, parentRunIds: readonly string[]): Promise<ClosedChild[]> {
  if (parentRunIds.length === 0) return [];
  const parents = plainArray([...new Set(parentRunIds)].sort());
  const marks = await db.query<{ readonly mark: string }>(CUT_MARKS, [parents]);
  const closed: ClosedChild[] = [];
  for (let after = '00000000-0000-0000-0000-000000000000'; ; ) {
    const rows = await db.query<Row>(LEFT_CHILDREN, [parents, after, CHUNK]);
    closed.push(...(await close(db, rows)));
    if (rows.length < CHUNK) break;
    after = (rows.at(-1) as Row).run_id;
  }
  await db.query(MARK_CLOSED, [parents]);
  if (marks.length > 0) await db.query(FORGET_CUTS, [parents, plainArray(marks, ({ mark }) => mark)]);
  return closed;
}

async function close(db: Database, rows: readonly Row[]): Promise<ClosedChild[]> {
  const commandOf = (row: Row) => ({
    namespace: row.namespace,
    runId: row.run_id,
    reason: `The parent run ${row.parent_run_id} ${row.parent_ended ? 'has ended' : 'no longer waits for it'}.`,
  });
  const cancels = rows.filter((row) => row.parent_close === 'CANCEL').map(commandOf);
  const terminates = rows.filter((row) => row.parent_close === 'TERMINATE').map(commandOf);
  const cancelled = cancels.length === 0 ? [] : await cancelRuns(db, cancels);
  const terminated = terminates.length === 0 ? [] : await terminateRuns(db, terminates);
  return [
    ...cancels.map((command, index): ClosedChild => {
      return { ...command, close: 'CANCEL', outcome: cancelled[index] as CancelRunOutcome };
    }),
    ...terminates.map((command, index): ClosedChild => {
      return { ...command, close: 'TERMINATE', outcome: terminated[index] as TerminateRunOutcome };
    }),
  ];
}
