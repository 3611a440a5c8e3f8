/** Reads attempts: the history of a run in pages, the attempts of a step, one attempt. The caller has checked the namespace. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { StepAttempt } from '../model.js';
import { withBorrowed } from './borrowed-payloads.js';
import { withActions } from './list-actions.js';
import { withSenders } from './message-senders.js';
import type { HistoryCursor, HistoryPage } from './queries.js';
import { STEP_COLUMNS, STEP_PAYLOAD_COLUMNS, type StepRow, stepOf } from './step-row.js';

/** The attempts that fit the page, at least the first; `is_last`: no other follows. */
const historyPage = (
  columns: string,
  bytes: string,
) => `select ${columns}, s.place = s.candidates and s.place < $5::int as is_last
  from (
    select c.*, row_number() over page as place, count(*) over () as candidates, sum(${bytes}) over page as bytes
    from (
      select * from perdure.step_runs s
      where s.run_id = $1::uuid and (s.seq, s.step_id, s.attempt_number) > ($2::int, $3::text, $4::int)
      order by s.seq, s.step_id, s.attempt_number
      limit $5::int
    ) c
    window page as (order by c.seq, c.step_id, c.attempt_number rows unbounded preceding)
  ) s
  where s.place = 1 or s.bytes <= $6::float8
  order by s.place`;

const FAILURE_BYTES = 'coalesce(c.failure_bytes, 0)';
const PAYLOAD_BYTES = `coalesce(octet_length(c.input), 0) + coalesce(octet_length(c.output), 0)
      + coalesce(octet_length(c.heartbeat), 0) + coalesce(c.payload_bytes, 0)`;

const READ_HISTORY = defineStatement('read_history', historyPage(STEP_COLUMNS, FAILURE_BYTES));

const READ_HISTORY_WITH_PAYLOADS = defineStatement(
  'read_history_with_payloads',
  historyPage(`${STEP_COLUMNS}, ${STEP_PAYLOAD_COLUMNS}`, `${FAILURE_BYTES} + ${PAYLOAD_BYTES}`),
);

const LIST_STEP_ATTEMPTS = defineStatement(
  'list_step_attempts',
  `select * from (
    select ${STEP_COLUMNS} from perdure.step_runs s
    where s.run_id = $1::uuid and s.step_id = $2
    order by s.attempt_number desc
    limit 1000
  ) newest order by attempt_number`,
);

const GET_STEP_ATTEMPT = defineStatement(
  'get_step_attempt',
  `select ${STEP_COLUMNS}, ${STEP_PAYLOAD_COLUMNS} from perdure.step_runs s
  where s.run_id = $1::uuid and s.step_id = $2 and case when $3::int = 0 then s.attempt_key = 0 else s.attempt_number = $3::int end`,
);

/** Attempts that began or ended at or after a time; for watchers, which read repeatedly. */
const READ_CHANGED_STEPS = defineStatement(
  'read_changed_steps',
  `select ${STEP_COLUMNS} from perdure.step_runs s
  where s.run_id = $1::uuid and (s.started_at >= $2::timestamptz or s.finished_at >= $2::timestamptz)
  order by s.seq, s.step_id, s.attempt_number
  limit $3::int`,
);

/** Most bytes of payloads and failures in a page, unless it has a single attempt: workers and clients read 16 MiB. */
const MAX_HISTORY_BYTES = 4 * 1024 * 1024;

/** @returns attempts in order of (seq, attempt_number) */
export async function readHistory(
  db: Reader,
  runId: string,
  page: { readonly limit: number; readonly after: HistoryCursor | null; readonly payloads: boolean },
): Promise<HistoryPage> {
  const { seq, stepId, attemptNumber } = page.after ?? { seq: 0, stepId: '', attemptNumber: 0 };
  const rows = await db.query<StepRow & { is_last: boolean }>(
    page.payloads ? READ_HISTORY_WITH_PAYLOADS : READ_HISTORY,
    [runId, seq, stepId, attemptNumber, page.limit + 1, MAX_HISTORY_BYTES],
  );
  const shown = await withBorrowed(db, rows.slice(0, page.limit));
  const steps = await withActions(db, await withSenders(db, shown.map(stepOf)));
  const last = steps.at(-1);
  return {
    steps,
    next:
      last !== undefined && shown.at(-1)?.is_last !== true
        ? { seq: last.seq, stepId: last.stepId, attemptNumber: last.attemptNumber }
        : null,
  };
}

/** @returns the newest 1,000 attempts without payloads, oldest first */
export async function listStepAttempts(db: Reader, runId: string, stepId: string): Promise<readonly StepAttempt[]> {
  const rows = await db.query<StepRow>(LIST_STEP_ATTEMPTS, [runId, stepId]);
  return withActions(db, rows.map(stepOf));
}

/**
 * @param attemptNumber from 1; 0 means the latest
 * @returns the attempt with its payloads, or null
 */
export async function getStepAttempt(
  db: Reader,
  runId: string,
  stepId: string,
  attemptNumber: number,
): Promise<StepAttempt | null> {
  const [row] = await withBorrowed(db, await db.query<StepRow>(GET_STEP_ATTEMPT, [runId, stepId, attemptNumber]));
  return row === undefined ? null : ((await withActions(db, await withSenders(db, [stepOf(row)])))[0] ?? null);
}

/**
 * @param since by the database's clock
 * @returns at most `limit` attempts that began or ended since then, in program order, without who sent what they have received
 */
export async function readChangedSteps(
  db: Reader,
  runId: string,
  since: Date,
  limit: number,
): Promise<readonly StepAttempt[]> {
  const rows = await db.query<StepRow>(READ_CHANGED_STEPS, [runId, since.toISOString(), limit]);
  return rows.map(stepOf);
}
