/**
 * Ends runs for the worker that holds them: COMPLETED, FAILED or CANCELLED.
 *
 * A terminal status never changes again, so the race of complete against cancel, terminate and timeout is decided by who
 * locks the row first; the fence refuses all others. CANCELLED needs a cancel request. A repeat of the same end under the same
 * lease is answered like the first call.
 *
 * The fast path is COMPLETED with nothing open: one plain UPDATE, which answers with the number of changed rows. Only when that is
 * less than the number of commands, each command is judged, and the changed ones are then found as already ended. The statement
 * trusts the worker that nothing is open, because checking would read the whole history. What a worker leaves open by mistake stays
 * open in the history of its run, and no sweep acts on it.
 */
import type { EndRun, EndRunOutcome, Relatives } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { byteaArray, jsonArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';
import { type RelativesRow, relativesOf } from '../parts/relatives.js';

/** The fence is in the WHERE of the row, which PostgreSQL checks again after waiting for a lock. */
const COMPLETE_RUNS = defineStatement(
  'complete_runs',
  `with ended as (
    update perdure.workflow_runs r
    set status = 'COMPLETED', output = c.output, output_encoding = c.output_encoding, failure = null,
      leased_by = null, lease_expires_at = null, finished_at = perdure.clock(), updated_at = perdure.clock()
    from unnest($1::uuid[], $2::text[], $3::int[], $4::bytea[], $5::text[])
      as c(run_id, namespace, lease_token, output, output_encoding)
    where r.run_id = c.run_id and r.namespace = c.namespace and r.lease_token = c.lease_token and r.status = 'RUNNING'
    returning r.run_id, r.parent_run_id is not null as has_parent, r.has_children
  ),
  untold as (
    insert into perdure.child_ends (child_id, ended_at) select run_id, perdure.clock() from ended where has_parent
    on conflict do nothing
  )
  select count(*)::int as written,
    jsonb_object_agg(run_id, jsonb_build_object('hasParent', has_parent, 'hasChildren', coalesce(has_children, false)))
      filter (where has_parent or has_children) as relatives
  from ended`,
);

const END_RUNS = defineStatement(
  'end_runs',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::bytea[], $6::text[], $7::jsonb[], $8::boolean[],
        $9::jsonb[])
      with ordinality as t(run_id, namespace, lease_token, end_status, output, output_encoding, failure, has_open_steps, cut, ord)
  ),
  judged as (
    select c.*,
      case
        when l.namespace = c.namespace and l.lease_token = c.lease_token and l.status = c.end_status then 'already_ended'
        else coalesce(${FENCE_VERDICT}, case
          when c.end_status = 'CANCELLED' and l.cancel_requested_at is null then 'cancel_not_requested'
          else 'end'
        end)
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  ended as (
    update perdure.workflow_runs r
    set status = j.end_status, output = j.output, output_encoding = j.output_encoding, failure = j.failure,
      end_cut = j.cut, leased_by = null, lease_expires_at = null, finished_at = perdure.clock(), updated_at = perdure.clock()
    from judged j
    where j.verdict = 'end' and r.run_id = j.run_id
    returning r.run_id, r.parent_run_id is not null as has_parent, coalesce(r.has_children, false) as has_children
  ),
  untold as (
    insert into perdure.child_ends (child_id, ended_at) select run_id, perdure.clock() from ended where has_parent
    on conflict do nothing
  )
  select j.ord::int as ord, case when j.verdict = 'end' then 'ended' else j.verdict end as verdict, e.has_parent, e.has_children,
    case when j.verdict = 'end' and j.has_open_steps then perdure.cancel_open_steps(j.run_id) end as closed
  from judged j left join ended e on e.run_id = j.run_id order by j.ord`,
);

/** @returns one outcome per command, in their order */
export async function endRuns(db: Database, commands: readonly EndRun[]): Promise<EndRunOutcome[]> {
  const fastPath = commands.filter(isFastPath);
  const { done, relatives } = fastPath.length > 0 ? await completeRuns(db, fastPath) : NOTHING_WRITTEN;
  const endedOf = ({ runId }: EndRun): EndRunOutcome => {
    const found = relatives?.[runId];
    return found === undefined ? ENDED : { kind: 'ended', relatives: found };
  };
  if (done && fastPath.length === commands.length) return commands.map(relatives === null ? () => ENDED : endedOf);
  const others = done ? commands.filter((command) => !isFastPath(command)) : commands;
  const judged = await judgeAndEnd(db, others);
  if (others === commands) {
    // What the fast path has written is found as already ended; it is known what follows from it.
    return commands.map((command, index) =>
      relatives?.[command.runId] === undefined ? (judged[index] as EndRunOutcome) : endedOf(command),
    );
  }
  let next = 0;
  return commands.map((command) => (isFastPath(command) ? endedOf(command) : (judged[next++] as EndRunOutcome)));
}

const NOTHING_WRITTEN = { done: false, relatives: null };
const ENDED: EndRunOutcome = { kind: 'ended' };

type FastPathEnd = Extract<EndRun, { end: 'COMPLETED' }>;

function isFastPath(command: EndRun): command is FastPathEnd {
  return command.end === 'COMPLETED' && !command.hasOpenSteps;
}

interface Completed {
  /** False when not all were written; some may have been. */
  readonly done: boolean;
  /** By run id; null when nobody is affected, as nearly always. */
  readonly relatives: Readonly<Record<string, Relatives>> | null;
}

async function completeRuns(db: Database, commands: readonly FastPathEnd[]): Promise<Completed> {
  // In the order in which every other statement locks runs.
  const sorted = [...commands].sort((a, b) => (a.runId < b.runId ? -1 : 1));
  const [row] = await db.query<{ written: number; relatives: Completed['relatives'] }>(COMPLETE_RUNS, [
    ...fenceParameters(sorted),
    byteaArray(sorted, (command) => command.output?.data),
    textArray(sorted, (command) => command.output?.encoding),
  ]);
  return { done: row?.written === commands.length, relatives: row?.relatives ?? null };
}

function judgeAndEnd(db: Database, commands: readonly EndRun[]): Promise<EndRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<Row>(END_RUNS, [
        ...fenceParameters(round),
        textArray(round, (command) => command.end),
        byteaArray(round, (command) => (command.end === 'COMPLETED' ? command.output?.data : null)),
        textArray(round, (command) => (command.end === 'COMPLETED' ? command.output?.encoding : null)),
        jsonArray(round, (command) => (command.end === 'FAILED' ? command.failure : null)),
        plainArray(round, (command) => command.end !== 'COMPLETED' || command.hasOpenSteps),
        jsonArray(round, cutOf),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function cutOf(command: EndRun) {
  const cut = command.end === 'COMPLETED' ? null : command.cut;
  return cut ? { ...cut.from, seq: cut.seq } : null;
}

type Row = VerdictRow & RelativesRow;

function outcomeOf(row: Row): EndRunOutcome {
  switch (row.verdict) {
    case 'ended':
      return { kind: 'ended', ...relativesOf(row) };
    case 'already_ended':
    case 'cancel_not_requested':
      return { kind: row.verdict };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('end_runs', row.verdict);
  }
}
