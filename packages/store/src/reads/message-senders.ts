/** Who sent the signals and updates that steps have received, and the names of the updates: they are not in the rows of the steps. */
import type { Reader } from '../database/database.js';
import { plainArray, textArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';
import type { StepAttempt } from '../model.js';

const MESSAGE_SENDERS = defineStatement(
  'message_senders',
  `select c.ord::int as ord, m.name, m.sender
  from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as c(run_id, step_id, kind, ord)
  cross join lateral (
    (select x.name, x.sender from perdure.signals x
      where c.kind = 'SIGNAL' and x.run_id = c.run_id and x.consumed_by = c.step_id limit 1)
    union all
    (select x.name, x.sender from perdure.run_updates x
      where c.kind = 'UPDATE' and x.run_id = c.run_id and x.step_id = c.step_id limit 1)
  ) m`,
);

/** Adds them, for the steps that have received a signal or an update. */
export async function withSenders(db: Reader, steps: readonly StepAttempt[]): Promise<readonly StepAttempt[]> {
  const received = steps.filter(
    ({ kind, status, isLatest, isCut }) =>
      (kind === 'SIGNAL' || kind === 'UPDATE') && status === 'COMPLETED' && isLatest && !isCut,
  );
  if (received.length === 0) return steps;
  const rows = await db.query<{ ord: number; name: string; sender: string }>(MESSAGE_SENDERS, [
    plainArray(received, (step) => step.runId),
    textArray(received, (step) => step.stepId),
    plainArray(received, (step) => step.kind),
  ]);
  const messageOf = new Map(rows.map((row) => [received[row.ord - 1], row]));
  return steps.map((step) => {
    const message = messageOf.get(step);
    return message === undefined ? step : { ...step, awaits: message.name, sender: message.sender };
  });
}
