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
import type { EndRun, EndRunOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { byteaArray, jsonArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';

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
    returning 1
  )
  select count(*)::int as written from ended`,
);

const END_RUNS = defineStatement(
  'end_runs',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::bytea[], $6::text[], $7::jsonb[], $8::boolean[])
      with ordinality as t(run_id, namespace, lease_token, end_status, output, output_encoding, failure, has_open_steps, ord)
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
      leased_by = null, lease_expires_at = null, finished_at = perdure.clock(), updated_at = perdure.clock()
    from judged j
    where j.verdict = 'end' and r.run_id = j.run_id
    returning r.run_id
  )
  select ord::int as ord, case when verdict = 'end' then 'ended' else verdict end as verdict,
    case when verdict = 'end' and has_open_steps then perdure.cancel_open_steps(run_id) end as closed
  from judged order by ord`,
);

/** @returns one outcome per command, in their order */
export async function endRuns(db: Database, commands: readonly EndRun[]): Promise<EndRunOutcome[]> {
  const fastPath = commands.filter(isFastPath);
  const done = fastPath.length > 0 && (await completeRuns(db, fastPath));
  if (done && fastPath.length === commands.length) return commands.map(() => ENDED);
  const others = done ? commands.filter((command) => !isFastPath(command)) : commands;
  const judged = await judgeAndEnd(db, others);
  if (others === commands) return judged;
  let next = 0;
  return commands.map((command) => (isFastPath(command) ? ENDED : (judged[next++] as EndRunOutcome)));
}

const ENDED: EndRunOutcome = { kind: 'ended' };

type FastPathEnd = Extract<EndRun, { end: 'COMPLETED' }>;

function isFastPath(command: EndRun): command is FastPathEnd {
  return command.end === 'COMPLETED' && !command.hasOpenSteps;
}

/** @returns false when not all were written; some may have been */
async function completeRuns(db: Database, commands: readonly FastPathEnd[]): Promise<boolean> {
  // In the order in which every other statement locks runs.
  const sorted = [...commands].sort((a, b) => (a.runId < b.runId ? -1 : 1));
  const [row] = await db.query<{ written: number }>(COMPLETE_RUNS, [
    ...fenceParameters(sorted),
    byteaArray(sorted, (command) => command.output?.data),
    textArray(sorted, (command) => command.output?.encoding),
  ]);
  return row?.written === commands.length;
}

function judgeAndEnd(db: Database, commands: readonly EndRun[]): Promise<EndRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<VerdictRow>(END_RUNS, [
        ...fenceParameters(round),
        textArray(round, (command) => command.end),
        byteaArray(round, (command) => (command.end === 'COMPLETED' ? command.output?.data : null)),
        textArray(round, (command) => (command.end === 'COMPLETED' ? command.output?.encoding : null)),
        jsonArray(round, (command) => (command.end === 'FAILED' ? command.failure : null)),
        plainArray(round, (command) => command.end !== 'COMPLETED' || command.hasOpenSteps),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: VerdictRow): EndRunOutcome {
  switch (row.verdict) {
    case 'ended':
    case 'already_ended':
    case 'cancel_not_requested':
      return { kind: row.verdict };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('end_runs', row.verdict);
  }
}
