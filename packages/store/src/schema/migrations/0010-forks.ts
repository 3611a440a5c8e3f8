/** A person starts another run from a step of one that exists: what the code had done before the step is not done again. */
export const forks = `
alter table perdure.step_runs
  -- The attempt that has the payloads, when they are not in this row: of the same step, in a run that this one is a fork of.
  add column payload_run_id  uuid,
  add column payload_attempt integer,
  add column payload_bytes   integer;

alter table perdure.workflow_runs
  -- How often its payloads were lent to a fork: a change of it tells a deletion, which has waited for the lock of the run, that its snapshot is old.
  -- Null, as of nearly all.
  add column forks integer,
  -- A part of its steps is deleted: the run is not continued or forked any more. Null, as of nearly all.
  add column deleting_at timestamptz,
  drop constraint workflow_runs_origin_kind_check,
  add constraint workflow_runs_origin_kind_check check (origin_kind in ('RESTART', 'CONTINUE', 'FORK'));

-- Whose payloads the steps of a fork use. The owner may have been deleted: then those of its steps are left that forks use.
create table perdure.fork_payloads (
  fork_run_id  uuid not null,
  owner_run_id uuid not null,
  primary key (fork_run_id, owner_run_id)
);
create index fork_payloads_owner on perdure.fork_payloads (owner_run_id);

-- Whether a step of a fork, other than the one that is given, uses the payloads of an attempt.
create function perdure.is_borrowed(owner uuid, of_step text, of_attempt integer, not_by uuid) returns boolean
  language sql stable
  as $$
    select exists (
      select 1 from perdure.fork_payloads f
      join perdure.step_runs b on b.run_id = f.fork_run_id and b.step_id = of_step
      where f.owner_run_id = owner and f.fork_run_id is distinct from not_by and b.payload_run_id = owner and b.payload_attempt = of_attempt)
  $$;

create function perdure.borrowed_output(owner uuid, of_step text, of_attempt integer) returns bytea
  language sql stable
  as $$ select s.output from perdure.step_runs s where s.run_id = owner and s.step_id = of_step and s.attempt_number = of_attempt $$;

-- Starts a run from a step of another one. The latest attempts of the steps before it are copied with their places in the order of results, without
-- large payloads. What was requested before the step and has no outcome begins again, and so does what was given to the code when, or after, it learned of
-- a cancel request. The lease token continues, so what the fork does comes after what is copied. The runs whose payloads are lent are locked.
create function perdure.fork_run(forked_run uuid, in_namespace text, from_step text, new_run uuid, new_workflow_id text, has_new_input boolean,
    new_input bytea, new_encoding text, by_actor text, for_reason text, request text)
  returns table (verdict text, run_status text, new_run_id uuid, workflow_id text, kept_steps integer, task_queue text, workflow_type text,
    expires_in_ms float8)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  declare
    run perdure.workflow_runs;
    known jsonb;
    owners uuid[];
    from_seq integer;
    timeout interval;
    -- Outcomes from here on are not copied.
    end_lease integer;
    end_event integer;
  begin
    -- Written when the run was forked itself, and never again.
    select array_agg(f.owner_run_id) into owners from perdure.fork_payloads f where f.fork_run_id = forked_run;
    owners := array_append(owners, forked_run);
    perform perdure.lock_runs(owners);
    select r.* into run from perdure.workflow_runs r where r.run_id = forked_run and r.namespace = in_namespace;
    if not found or run.deleting_at is not null then
      verdict := 'run_not_found';
      return next;
      return;
    end if;
    run_status := run.status;
    select a.detail into known from perdure.run_actions a where a.run_id = forked_run and a.request_id = request;
    if found then
      verdict := 'already_forked';
      new_run_id := (known->>'runId')::uuid;
      workflow_id := known->>'workflowId';
      kept_steps := (known->>'keptSteps')::int;
      return next;
      return;
    end if;
    if run.compensation is not null then
      verdict := 'wrong_state';
      return next;
      return;
    end if;
    select s.seq into from_seq
    from perdure.step_runs s where s.run_id = forked_run and s.step_id = from_step and s.attempt_key = 0 and not s.is_cut;
    if not found then
      verdict := 'step_not_found';
      return next;
      return;
    end if;

    workflow_id := coalesce(new_workflow_id, (
      select case when octet_length(n.name) <= 255 then n.name else new_run::text end
      from (
        select run.workflow_id || '/fork-' || count(*) + 1 as name from perdure.run_actions a where a.run_id = forked_run and a.kind = 'FORK') n));
    timeout := run.run_deadline_at - coalesce(run.reopened_at, run.created_at);
    insert into perdure.workflow_runs (run_id, namespace, workflow_id, workflow_type, task_queue, priority, build, status, available_at,
      run_deadline_at, execution_timeout_ms, max_lost_leases, created_at, updated_at, started_at, lease_token, input, input_encoding, signal_seq,
      origin_run_id, origin_kind)
    values (new_run, run.namespace, workflow_id, run.workflow_type, run.task_queue, run.priority, run.build, 'PENDING', perdure.clock(),
      perdure.clock() + timeout, run.execution_timeout_ms, run.max_lost_leases, perdure.clock(), perdure.clock(), run.started_at, run.lease_token,
      case when has_new_input then new_input else run.input end, case when has_new_input then new_encoding else run.input_encoding end,
      run.signal_seq, forked_run, 'FORK')
    on conflict do nothing;
    if not found then
      verdict := 'workflow_id_taken';
      select r.run_id into new_run_id
      from perdure.workflow_runs r where r.namespace = run.namespace and r.workflow_id = fork_run.workflow_id and r.finished_at is null;
      return next;
      return;
    end if;

    select p.lease_token, p.event_seq into end_lease, end_event
    from (
      select run.cancel_lease_token, run.cancel_event_seq where run.cancel_event_seq is not null
      union all
      select s.lease_token, s.event_seq from perdure.step_runs s
      where s.run_id = forked_run and s.attempt_key = 0 and s.status = 'CANCELLED' and not s.is_cut and s.event_seq is not null
    ) p(lease_token, event_seq)
    order by p.lease_token, p.event_seq limit 1;
    insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, is_latest, counted_attempt, max_counted_attempts,
      lease_token, worker_id, started_at, finished_at, fires_at, event_seq, awaits, output, output_encoding, failure, payload_run_id, payload_attempt,
      payload_bytes)
    select new_run, s.step_id, 1, s.seq, s.kind, s.status, true, 1, s.max_counted_attempts, s.lease_token, s.worker_id, s.started_at,
      -- An id of a promise finds the step of the run that gave it away.
      s.finished_at, case when s.kind <> 'PROMISE' then s.fires_at end, s.event_seq, case when s.kind <> 'PROMISE' then s.awaits end,
      case when not b.is_large then s.output end, s.output_encoding, s.failure,
      case when b.is_large then coalesce(s.payload_run_id, s.run_id) end, case when b.is_large then coalesce(s.payload_attempt, s.attempt_number) end,
      case when b.is_large then coalesce(s.payload_bytes, b.bytes) end
    from perdure.step_runs s
    cross join lateral (
      -- Small values are in the row anyway, and are copied with it.
      select o.bytes, s.payload_run_id is not null or o.bytes > 256 as is_large
      from (select coalesce(octet_length(s.output), 0) + coalesce(octet_length(s.input), 0) as bytes) o) b
    where s.run_id = forked_run and s.attempt_key = 0 and not s.is_cut and s.seq < from_seq and s.event_seq is not null
      and s.status <> 'RUNNING' and s.next_retry_at is null
      and (end_event is null or (s.lease_token, s.event_seq) < (end_lease, end_event));
    get diagnostics kept_steps = row_count;

    -- What these steps have received. A cut that frees it again finds a large payload with its step.
    insert into perdure.signals (run_id, sent_at, seq, name, sender, consumed_by, payload, payload_encoding)
    select new_run, g.sent_at, g.seq, g.name, g.sender, g.consumed_by, case when s.payload_run_id is null then g.payload end, g.payload_encoding
    from perdure.step_runs s
    cross join lateral (select * from perdure.signals x where x.run_id = forked_run and x.consumed_by = s.step_id limit 1) g
    where s.run_id = new_run and s.kind = 'SIGNAL' and s.status = 'COMPLETED';
    insert into perdure.run_updates (run_id, sent_at, answered_at, seq, name, request_id, sender, step_id, answer, payload, payload_encoding, output,
      output_encoding, failure)
    select new_run, u.sent_at, u.answered_at, u.seq, u.name, u.request_id, u.sender, u.step_id, u.answer,
      case when s.payload_run_id is null then u.payload end, u.payload_encoding, u.output, u.output_encoding, u.failure
    from perdure.step_runs s
    cross join lateral (select * from perdure.run_updates x where x.run_id = forked_run and x.step_id = s.step_id limit 1) u
    where s.run_id = new_run and s.kind = 'UPDATE' and s.status = 'COMPLETED';
    insert into perdure.event_receipts (event_id, run_id, received_at, step_id)
    select e.event_id, new_run, e.received_at, e.step_id
    from perdure.step_runs s
    cross join lateral (
      -- By the event, because that is how receipts are found.
      select r.event_id, r.received_at, r.step_id
      from perdure.events v
      cross join lateral (
        select * from perdure.event_receipts x where x.event_id = v.event_id and x.run_id = forked_run and x.step_id = s.step_id limit 1) r
      where v.namespace = s.awaits::jsonb->>'namespace' and v.name = s.awaits::jsonb->>'name' and v.published_at <= s.finished_at) e
    where s.run_id = new_run and s.kind = 'EVENT' and s.status = 'COMPLETED';

    -- The limits of runs come with a later migration.
    perform perdure.renew_limits(forked_run, new_run);
    insert into perdure.fork_payloads (fork_run_id, owner_run_id)
    select distinct new_run, s.payload_run_id from perdure.step_runs s where s.run_id = new_run and s.payload_run_id is not null;
    update perdure.workflow_runs r set forks = coalesce(r.forks, 0) + 1 where r.run_id = any(owners);
    perform perdure.note_action(forked_run, 'FORK', by_actor, for_reason, request,
      jsonb_build_object('runId', new_run, 'workflowId', workflow_id, 'stepId', from_step, 'keptSteps', kept_steps));
    verdict := 'forked';
    new_run_id := new_run;
    task_queue := run.task_queue;
    workflow_type := run.workflow_type;
    select (extract(epoch from r.run_deadline_at - perdure.clock()) * 1000)::float8 into expires_in_ms
    from perdure.workflow_runs r where r.run_id = new_run;
    return next;
  end $$;

-- A fork is being deleted, and its steps are gone: deletes what deleted runs have left of their steps for it, unless another fork uses that. At most
-- so many steps; true when nothing is left to do.
create function perdure.return_payloads(deleted_fork uuid, max_steps integer) returns boolean
  language plpgsql volatile
  as $$
  declare
    owners uuid[];
    deleted integer;
  begin
    select array_agg(f.owner_run_id) into owners from perdure.fork_payloads f where f.fork_run_id = deleted_fork;
    if owners is null then return true; end if;
    -- A deletion of an owner is over before, or sees that the steps of the fork are gone.
    perform perdure.lock_runs(array_append(owners, deleted_fork));
    if exists (select 1 from perdure.step_runs s where s.run_id = deleted_fork) then return false; end if;
    delete from perdure.step_runs s using (
      select x.run_id, x.step_id, x.attempt_key from perdure.step_runs x
      where x.run_id in (select o.id from unnest(owners) as o(id) where not exists (select 1 from perdure.workflow_runs r where r.run_id = o.id))
        and not perdure.is_borrowed(x.run_id, x.step_id, x.attempt_number, deleted_fork)
      limit max_steps) d
    where s.run_id = d.run_id and s.step_id = d.step_id and s.attempt_key = d.attempt_key;
    get diagnostics deleted = row_count;
    if deleted >= max_steps then return false; end if;
    delete from perdure.fork_payloads f where f.fork_run_id = deleted_fork;
    return true;
  end $$;
`;
