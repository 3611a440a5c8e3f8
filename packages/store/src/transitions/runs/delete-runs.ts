/**
 * Permanently deletes ended runs with their steps, signals, updates, state and payloads. An open run is refused, because its worker would continue to write.
 * Deleting a deleted run answers run_not_found; its workflow id and request id are free again.
 *
 * A run may have any number of steps, so each statement deletes a bounded number of them, in run id order, and a run
 * together with the last of its steps; the statement is repeated until every run of the batch is deleted. When that is interrupted, a
 * run keeps a part of its history and its terminal status, and deleting it again deletes the rest. Until then it is not retried or forked.
 *
 * Forks use payloads of the run that they come from: steps that have such a payload stay, without their run, until the last of these forks is
 * deleted (decision 0030). A fork gives back what it uses before it is deleted itself.
 *
 * A run with relatives is deleted when its parent has been told of its end and its children are closed, which is done first.
 *
 * Race closed: a run that ends, or is forked, while this waits for its lock has steps, or forks, that this statement's snapshot does not show. It is
 * judged again with a new snapshot, so that no step outlives its run, and no fork loses a payload.
 */
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { RunStatus } from '../../model.js';
import { closeChildren } from '../children/close-children.js';
import { tellParents } from '../children/tell-parents.js';
import { inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';

export interface DeleteRun {
  readonly namespace: string;
  readonly runId: string;
}
export type DeleteRunOutcome =
  | { readonly kind: 'run_not_found' }
  /** The run has not ended. */
  | { readonly kind: 'wrong_state'; readonly status: RunStatus }
  | { readonly kind: 'deleted' };

/** Most steps, signals and updates that one statement deletes: a few tenths of a second. */
const MAX_STEPS = 10_000;

/** Deletes from a table of messages, at most $3. */
const messagesOf = (table: 'signals' | 'run_updates') => `${table} as materialized (
    select m.run_id, m.seq
    from (select run_id from judged where verdict = 'delete' order by run_id) d
    cross join lateral (select run_id, seq from perdure.${table} where run_id = d.run_id order by seq limit $3) m
    limit $3
  ),
  ${table}_deleted as (
    delete from perdure.${table} m using ${table} d where m.run_id = d.run_id and m.seq = d.seq
  )`;

/** All that the run has is deleted. */
const isWithin = (what: string) => `((select count(*) from ${what}) < $3
      or j.run_id < (select run_id from ${what} order by run_id desc limit 1))`;

const DELETE_RUNS = defineStatement(
  'delete_runs',
  `with locked as materialized (
    select r.run_id, r.namespace, r.status, r.finished_at, r.forks,
      r.has_children or exists (select 1 from perdure.child_ends e where e.child_id = r.run_id) as has_open_ends
    from perdure.workflow_runs r
    -- With those whose payloads the forks among them use: a transaction that deletes more than a run returns them under locks that it has.
    where r.run_id = any(array(
      select c.run_id from unnest($1::uuid[]) c(run_id)
      union
      select f.owner_run_id from perdure.fork_payloads f where f.fork_run_id = any($1::uuid[])))
    order by r.run_id
    for update
  ),
  seen as materialized (
    select r.run_id, r.forks from perdure.workflow_runs r where r.run_id = any($1::uuid[]) and r.finished_at is not null
  ),
  command as (
    select * from unnest($1::uuid[], $2::text[]) with ordinality as t(run_id, namespace, ord)
  ),
  judged as materialized (
    select c.run_id, c.ord, l.status, l.forks,
      case
        when l.run_id is null or l.namespace <> c.namespace then 'run_not_found'
        when l.finished_at is null then 'wrong_state'
        when s.run_id is null or s.forks is distinct from l.forks then 'raced'
        when l.has_open_ends then 'has_open_ends'
        else 'delete'
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
    left join seen s on s.run_id = c.run_id
  ),
  steps as materialized (
    select s.run_id, s.step_id, s.attempt_key
    from (select run_id, forks from judged where verdict = 'delete' order by run_id) d
    cross join lateral (
      select x.run_id, x.step_id, x.attempt_key from perdure.step_runs x
      where x.run_id = d.run_id and (d.forks is null or not perdure.is_borrowed(x.run_id, x.step_id, x.attempt_number, null))
      order by step_id, attempt_key limit $3
    ) s
    limit $3
  ),
  steps_deleted as (
    delete from perdure.step_runs s using steps d
    where s.run_id = d.run_id and s.step_id = d.step_id and s.attempt_key = d.attempt_key
  ),
  ${messagesOf('signals')},
  ${messagesOf('run_updates')},
  -- When a limit is reached, the last run may have more of it, and later runs were not read.
  gone as (
    delete from perdure.workflow_runs r using judged j
    where j.verdict = 'delete' and r.run_id = j.run_id and ${isWithin('steps')} and ${isWithin('signals')} and ${isWithin('run_updates')}
      and not exists (select 1 from perdure.fork_payloads f where f.fork_run_id = j.run_id)
    returning r.run_id
  ),
  marked as (
    update perdure.workflow_runs r set deleting_at = coalesce(r.deleting_at, perdure.clock())
    from judged j
    where j.verdict = 'delete' and r.run_id = j.run_id and not exists (select 1 from gone g where g.run_id = j.run_id)
  ),
  states_deleted as (
    delete from perdure.run_states s using gone g where s.run_id = g.run_id
  ),
  actions_deleted as (
    delete from perdure.run_actions a using gone g where a.run_id = g.run_id
  ),
  losses_deleted as (
    delete from perdure.lost_leases l using gone g where l.run_id = g.run_id
  ),
  limits_deleted as (
    delete from perdure.run_limits l using gone g where l.run_id = g.run_id
  ),
  pauses_deleted as (
    delete from perdure.run_pauses p using gone g where p.run_id = g.run_id
  ),
  cuts_deleted as (
    delete from perdure.child_cuts c using gone g where c.run_id = g.run_id
  ),
  -- Nobody settles a promise of a deleted run.
  promises_left as (
    update perdure.step_runs s set awaits = null, fires_at = null
    from gone g
    join judged j on j.run_id = g.run_id and j.forks is not null
    where s.run_id = g.run_id and s.kind = 'PROMISE' and s.awaits is not null
      and perdure.is_borrowed(s.run_id, s.step_id, s.attempt_number, null)
  )
  select j.ord::int as ord, j.status,
    case when j.verdict = 'delete' then case when g.run_id is null then 'more' else 'deleted' end else j.verdict end as verdict
  from judged j
  left join gone g on g.run_id = j.run_id
  order by j.ord`,
);

const RETURN_PAYLOADS = defineStatement(
  'return_payloads',
  `select perdure.return_payloads(c.run_id, $2::int)
  from (select run_id from unnest($1::uuid[]) as t(run_id) order by run_id offset 0) c`,
);

interface Row extends VerdictRow {
  readonly status: RunStatus;
}

/** @returns one outcome per command, in their order */
export function deleteRuns(db: Database, commands: readonly DeleteRun[]): Promise<DeleteRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows: Row[] = [];
      let open = round.map((_, index) => index);
      while (open.length > 0) {
        const judged = await db.query<Row>(DELETE_RUNS, [
          plainArray(open, (index) => round[index]?.runId),
          textArray(open, (index) => round[index]?.namespace),
          MAX_STEPS,
        ]);
        open.forEach((index, position) => {
          rows[index] = judged[position] as Row;
        });
        open = open.filter((index) => rows[index]?.verdict === 'more');
        if (open.length > 0)
          await db.query(RETURN_PAYLOADS, [plainArray(open, (index) => round[index]?.runId), MAX_STEPS]);
      }
      const withOpenEnds = round
        .filter((_, index) => rows[index]?.verdict === 'has_open_ends')
        .map(({ runId }) => runId);
      await tellParents(db, withOpenEnds);
      await closeChildren(db, withOpenEnds);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): DeleteRunOutcome | 'raced' {
  switch (row.verdict) {
    case 'raced':
    case 'has_open_ends':
      return 'raced';
    case 'deleted':
    case 'run_not_found':
      return { kind: row.verdict };
    case 'wrong_state':
      return { kind: 'wrong_state', status: row.status };
    default:
      return unknownVerdict('delete_runs', row.verdict);
  }
}
