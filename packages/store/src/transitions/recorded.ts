/**
 * What is recorded of a step, for each row of `command c`. LATERAL with LIMIT is looked up by key for each command whatever
 * the planner believes of the table: a join would be planned as a scan while the table is small, and a connection keeps
 * that plan while the table grows.
 */
export const latestAttempt = (alias: string, stepId = 'c.step_id'): string => `left join lateral (
      select * from perdure.step_runs x where x.run_id = c.run_id and x.step_id = ${stepId} and x.is_latest limit 1
    ) ${alias} on true`;

/** The attempt that the command names. */
export const namedAttempt = (alias: string): string => `left join lateral (
      select * from perdure.step_runs x
      where x.run_id = c.run_id and x.step_id = c.step_id and x.attempt_number = c.attempt_number limit 1
    ) ${alias} on true`;
