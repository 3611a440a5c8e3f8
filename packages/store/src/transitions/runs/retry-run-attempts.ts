/**
 * Ends the present attempt of a run with an error; another attempt follows after a delay.
 *
 * The memo is cut at the failure to which the attempt goes back. Steps that the code requested before it (up to `cut.seq`) stay
 * memoized; failures that it was told from there on are executed again: their `next_retry_at` is set. Steps that it requested
 * afterwards - in a catch, in a finally - are cut: the rows stay as history, and the next attempt may take another path.
 * Without a cut everything is kept. The execution timeout starts anew with the next claim. A run with a cancel
 * request becomes claimable at once. A repeat under the same lease answers like the first time until the next claim.
 *
 * Race closed: an attempt or timer that begins while this waits for the run's lock is not in this statement's snapshot.
 * `cut_run` looks with a snapshot of its own once the lock is held, so it cuts or closes that one too.
 */
import type { RetryRunAttempt, RetryRunAttemptOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { jsonArray, plainArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';
import { markCuts } from '../parts/relatives.js';

const RETRY_RUN_ATTEMPTS = defineStatement(
  'retry_run_attempts',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::jsonb[], $5::bigint[], $6::int[], $7::int[],
      $8::int[])
      with ordinality as t(run_id, namespace, lease_token, failure, retry_after_ms, cut_lease_token, cut_event_seq, cut_seq, ord)
  ),
  judged as (
    select c.*, l.task_queue, l.cancel_requested_at is not null as cancel_requested,
      case
        when l.namespace = c.namespace and l.lease_token = c.lease_token and l.yield_reason = 'RUN_RETRY'
          and l.status in ('SLEEPING', 'PENDING') then 'already_retrying'
        else coalesce(${FENCE_VERDICT}, 'retry')
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  retrying as (
    update perdure.workflow_runs r
    set status = case when j.cancel_requested then 'PENDING' else 'SLEEPING' end,
      available_at = case when j.cancel_requested then perdure.clock() end,
      wake_at = case when not j.cancel_requested then perdure.clock() + j.retry_after_ms * interval '1 ms' end,
      yield_reason = 'RUN_RETRY', attempt = r.attempt + 1, retries = r.retries + 1, failure = j.failure, execution_deadline_at = null,
      compensation = nullif(r.compensation, 'COMPENSATING'),
      leased_by = null, lease_expires_at = null, updated_at = perdure.clock()
    from judged j
    where j.verdict = 'retry' and r.run_id = j.run_id
    returning r.run_id, r.has_children
  ),
  ${markCuts('select y.run_id from retrying y where y.has_children')}
  select j.ord::int as ord, case when j.verdict = 'retry' then 'retrying' else j.verdict end as verdict,
    j.task_queue, j.cancel_requested, coalesce(y.has_children, false) as has_children,
    case when j.verdict = 'retry' then perdure.cut_run(j.run_id, j.cut_lease_token, j.cut_event_seq, j.cut_seq) end as cut,
    case when j.verdict = 'retry' then perdure.free_updates(j.run_id, j.cut_seq) end as freed
  from judged j left join retrying y on y.run_id = j.run_id order by j.ord`,
);

interface Row extends VerdictRow {
  readonly task_queue: string;
  readonly cancel_requested: boolean;
  readonly has_children: boolean;
}

/** @returns one outcome per command, in their order */
export function retryRunAttempts(
  db: Database,
  commands: readonly RetryRunAttempt[],
): Promise<RetryRunAttemptOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<Row>(RETRY_RUN_ATTEMPTS, [
        ...fenceParameters(round),
        jsonArray(round, (command) => command.failure),
        plainArray(round, (command) => command.retryAfterMs),
        plainArray(round, (command) => command.cut?.from.leaseToken ?? null),
        plainArray(round, (command) => command.cut?.from.eventSeq ?? null),
        plainArray(round, (command) => command.cut?.seq ?? null),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): RetryRunAttemptOutcome {
  switch (row.verdict) {
    case 'retrying':
      return {
        kind: 'retrying',
        taskQueue: row.task_queue,
        delayed: !row.cancel_requested,
        ...(row.has_children ? { hasChildren: true } : {}),
      };
    case 'already_retrying':
      return { kind: 'already_retrying' };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('retry_run_attempts', row.verdict);
  }
}
