/**
 * What becomes of open attempts when their run ends or is taken from its worker. Both read all steps of the run and are
 * kept off the usual path: a run that ends with nothing open says so, and a lease is seldom lost.
 *
 * For use inside a statement with a CTE `closing(run_id)`; adds the CTE `closed`.
 */

/**
 * The run goes on elsewhere: open bodies are FAILED as WORKER_LOST with another attempt to follow at once; timers run on.
 * The message is that of `closing(run_id, message)`.
 */
export const LOSE_OPEN_STEPS = `closed as (
    update perdure.step_runs s
    set status = 'FAILED', finished_at = perdure.clock(), next_retry_at = perdure.clock(), deadline_at = null,
      failure = jsonb_build_object('type', 'WorkerLostError', 'reason', 'WORKER_LOST', 'message', k.message)
    from closing k
    where s.run_id = k.run_id and s.attempt_key = 0 and s.status = 'RUNNING' and s.kind <> 'SLEEP'
    returning 1
  )`;
