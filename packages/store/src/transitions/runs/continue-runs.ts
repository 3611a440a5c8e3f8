/**
 * Ends runs for the worker that holds them, and starts their successors in the same commit: same workflow id, another input. Signals and updates
 * that no step has received, the state, the parent, a cancel request and a pause move along. The SQL is the function `perdure.continue_runs`.
 *
 * Races closed: a replaced lease (fence); whatever is sent to the run at the same moment finds it before, or finds it CONTINUED and is
 * sent to the successor; a start of the same workflow id finds the one or the other open. A repeat is answered with the successor of the
 * first call.
 */
import type { ContinueRun, ContinueRunOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { byteaArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { startIdentity } from '../../run-id.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';

const CONTINUE_RUNS = defineStatement(
  'continue_runs',
  `with continued as materialized (
    select * from perdure.continue_runs($1::uuid[], $2::text[], $3::int[], $4::uuid[], $5::bytea[], $6::text[], $7::text[], $8::int[],
      $9::bigint[], $10::bigint[], $11::bigint[], $12::boolean[])
  ),
  -- After all of them: reads what the function above has written.
  limited as materialized (
    select perdure.continue_limits(array_agg(($1::uuid[])[c.ord] order by c.ord), array_agg(c.next_run_id order by c.ord),
      array_agg(($10::bigint[])[c.ord] order by c.ord)) as done
    from continued c where c.verdict = 'continued' having count(*) > 0
  )
  select c.* from continued c cross join (select count(l.done) from limited l) as after_limits order by c.ord`,
);

interface Row extends VerdictRow {
  readonly next_run_id: string | null;
  readonly task_queue: string;
  readonly workflow_type: string;
  readonly has_children: boolean;
  readonly expires_in_ms: number | null;
}

/** @returns one outcome per command, in their order */
export function continueRuns(db: Database, commands: readonly ContinueRun[]): Promise<ContinueRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<Row>(CONTINUE_RUNS, [
        ...fenceParameters(round),
        plainArray(round, (command) => startIdentity(command.namespace, '').runId),
        byteaArray(round, (command) => command.input?.data),
        textArray(round, (command) => command.input?.encoding),
        textArray(round, (command) => command.taskQueue),
        plainArray(round, (command) => command.priority),
        plainArray(round, (command) => command.startDelayMs),
        plainArray(round, (command) => command.runTimeoutMs),
        plainArray(round, (command) => command.executionTimeoutMs),
        plainArray(round, (command) => command.hasOpenSteps),
      ]);
      return rows.map((row, index) => outcomeOf(round[index] as ContinueRun, row));
    },
  );
}

function outcomeOf({ namespace }: ContinueRun, row: Row): ContinueRunOutcome {
  switch (row.verdict) {
    case 'continued':
      return {
        kind: 'continued',
        nextRunId: row.next_run_id ?? '',
        queue: { namespace, taskQueue: row.task_queue },
        workflowType: row.workflow_type,
        expiresInMs: row.expires_in_ms,
        hasChildren: row.has_children,
      };
    case 'already_continued':
      return { kind: 'already_continued', nextRunId: row.next_run_id ?? '' };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('continue_runs', row.verdict);
  }
}
