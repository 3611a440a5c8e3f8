/**
 * The fence, written once. Transitions of workers begin with LOCKED_RUNS and judge with FENCE_VERDICT; the plain UPDATE of
 * `end-runs` fences in its WHERE instead:
 *
 * - All runs of the batch are locked in run id order before anything is read or written, so two batches never deadlock.
 * - The token is compared on the locked row version. Every statement that raises the token or takes the run away must lock the
 *   same row, so nothing can happen between the check and the write.
 * - Parameters: $1 run ids, $2 namespaces, $3 lease tokens, one element per command, in the order of the commands.
 *
 * What the lock does not give: other tables are read with the statement's snapshot, which may be older than the lock.
 * Writes to step_runs therefore repeat their condition in WHERE or ON CONFLICT, and a command whose write then did not
 * happen comes back as `raced` and is judged again with a new snapshot.
 */
export const LOCKED_RUNS = `locked as materialized (
    select r.run_id, r.namespace, r.task_queue, r.status, r.lease_token, r.yield_reason, r.leased_by, r.cancel_requested_at,
      r.cancel_event_seq is not null as cancel_observed, r.has_arrivals, r.paused_at
    from perdure.workflow_runs r
    where r.run_id = any($1::uuid[])
    order by r.run_id
    for no key update
  )`;

/** For `command c left join locked l on l.run_id = c.run_id`: why the fence refuses the command, or null. */
export const FENCE_VERDICT = `case
      when l.run_id is null or l.namespace <> c.namespace then 'run_not_found'
      when l.status <> 'RUNNING' or l.lease_token <> c.lease_token then 'lease_lost'
    end`;
