/**
 * What is recorded of a step, for each row of `command c`. LATERAL with LIMIT is always looked up by key: a join would be planned
 * as a scan while the table is small, and a connection keeps that plan while the table grows.
 */
export const latestAttempt = (alias: string, stepId = 'c.step_id'): string => `left join lateral (
      select * from perdure.step_runs x where x.run_id = c.run_id and x.step_id = ${stepId} and x.attempt_key = 0 limit 1
    ) ${alias} on true`;

/** The attempt that the command names. */
export const namedAttempt = (alias: string): string => `left join lateral (
      select * from perdure.step_runs x
      where x.run_id = c.run_id and x.step_id = c.step_id and x.attempt_number = c.attempt_number limit 1
    ) ${alias} on true`;

/**
 * For `command c`, and `p` its step's latest attempt: the attempt is the step's first, or follows one that FAILED and is
 * retried, or one that an earlier lease left open, or one that was cut.
 */
export const MAY_COME_NEXT = `c.attempt_number = coalesce(p.attempt_number, 0) + 1 and (p.attempt_number is null
          or (p.status = 'FAILED' and p.next_retry_at is not null)
          or p.is_cut
          or (p.status = 'RUNNING' and p.lease_token < c.lease_token))`;

/**
 * For `command c`, and `p` its step's latest attempt: the code asks for something other than what is recorded under the id.
 * A step that was cut may be recorded again with any kind and position.
 */
export const IS_MISMATCH = `not p.is_cut and (p.kind <> c.kind or p.seq <> c.seq)`;

/**
 * `replaced as (…)`: the attempts before those with the verdict are no longer the latest; one that an earlier lease left open
 * is closed as WORKER_LOST, so at most one attempt is ever open.
 */
export const replaceLatest = (verdict: string): string => `replaced as (
    update perdure.step_runs s
    set is_latest = false,
      status = case when s.is_cut then s.status else 'FAILED' end,
      failure = case when s.is_cut then s.failure else coalesce(s.failure, '{"type":"WorkerLostError","reason":"WORKER_LOST",
        "message":"The worker that ran this attempt was lost."}'::jsonb) end,
      finished_at = coalesce(s.finished_at, perdure.clock()),
      next_retry_at = case when not s.is_cut then coalesce(s.next_retry_at, perdure.clock()) end,
      deadline_at = null
    from judged j
    where j.verdict = '${verdict}' and j.previous is not null
      and s.run_id = j.run_id and s.step_id = j.step_id and s.attempt_number = j.previous and s.attempt_key = 0
    returning 1
  )`;
