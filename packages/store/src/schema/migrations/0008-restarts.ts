/** A person starts another run like one that exists. */
export const restarts = `
-- Starts one run with the type, queue, input and limits of another. When the workflow id is null, it is that of the origin.
create function perdure.restart_run(origin uuid, in_namespace text, new_run uuid, new_workflow_id text, by_actor text, for_reason text,
    request text)
  returns table (verdict text, new_run_id uuid, workflow_id text, task_queue text, workflow_type text, expires_in_ms float8)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  declare
    run record;
    known uuid;
    timeout interval;
    id text;
  begin
    select r.* into run from perdure.workflow_runs r where r.run_id = origin and r.namespace = in_namespace for no key update;
    if not found then
      return query select 'run_not_found', null::uuid, null, null, null, null::float8;
      return;
    end if;
    id := coalesce(new_workflow_id, run.workflow_id);
    select (a.detail->>'runId')::uuid into known from perdure.run_actions a where a.run_id = origin and a.request_id = request;
    if known is not null then
      return query select 'already_restarted', known, id, null, null, null::float8;
      return;
    end if;
    timeout := run.run_deadline_at - coalesce(run.reopened_at, run.created_at);
    insert into perdure.workflow_runs (run_id, namespace, workflow_id, workflow_type, task_queue, priority, build, status, available_at,
      run_deadline_at, execution_timeout_ms, max_lost_leases, created_at, updated_at, input, input_encoding, origin_run_id, origin_kind)
    values (new_run, run.namespace, id, run.workflow_type, run.task_queue, run.priority, run.build, 'PENDING', perdure.clock(),
      perdure.clock() + timeout, run.execution_timeout_ms, run.max_lost_leases, perdure.clock(), perdure.clock(), run.input,
      run.input_encoding, origin, 'RESTART')
    on conflict do nothing;
    if not found then
      return query
      select 'workflow_id_taken', (
        select r.run_id from perdure.workflow_runs r
        where r.namespace = run.namespace and r.workflow_id = id and r.finished_at is null), id, null, null, null::float8;
      return;
    end if;
    perform perdure.note_action(origin, 'RESTART', by_actor, for_reason, request, jsonb_build_object('runId', new_run));
    return query
    select 'restarted', new_run, id, run.task_queue, run.workflow_type, (extract(epoch from timeout) * 1000)::float8;
  end $$;
`;
