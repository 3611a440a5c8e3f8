/**
 * Limits of single runs, and what is known of the workers that runs have lost.
 *
 * Both are tables of their own, empty for nearly all runs: `workflow_runs` gets no column and no index, and nothing is written or read for
 * a run without such a limit that loses no worker.
 */
export const failures = `
-- The start timeout and the chain timeout of a run. The deadlines that they lead to are in the run itself, where the sweep looks:
-- execution_deadline_at is that of the start timeout until the first claim, and run_deadline_at is the earlier one of run and chain.
create table perdure.run_limits (
  run_id            uuid        primary key,
  -- The run timeout as it was given, because run_deadline_at may be that of the chain. Null: none.
  run_timeout_ms    bigint      check (run_timeout_ms > 0),
  start_timeout_ms  bigint      check (start_timeout_ms > 0),
  chain_timeout_ms  bigint      check (chain_timeout_ms > 0),
  chain_deadline_at timestamptz,
  constraint chain_is_complete check ((chain_timeout_ms is null) = (chain_deadline_at is null)),
  constraint limits_something check (start_timeout_ms is not null or chain_timeout_ms is not null)
);

-- Sets the deadlines of runs as their limits say. The transaction has made or locked the runs.
create function perdure.apply_limits(run_ids uuid[]) returns void
  language sql volatile
  as $$
    update perdure.workflow_runs r
    set run_deadline_at = least(coalesce(r.reopened_at, r.created_at) + l.run_timeout_ms * interval '1 ms', l.chain_deadline_at),
      execution_deadline_at = case when r.started_at is null
        then coalesce(r.wake_at, r.available_at) + l.start_timeout_ms * interval '1 ms' else r.execution_deadline_at end
    from unnest(run_ids) u(run_id)
    cross join lateral (select * from perdure.run_limits x where x.run_id = u.run_id limit 1) l
    -- By place: joined by its key, a plan of empty tables may read all runs.
    cross join lateral (select x.ctid as run_at from perdure.workflow_runs x where x.run_id = u.run_id and x.finished_at is null limit 1) p
    where r.ctid = p.run_at
  $$;

-- Limits runs that the transaction has started: nobody has seen them without.
create function perdure.limit_runs(run_ids uuid[], run_timeouts_ms bigint[], start_timeouts_ms bigint[], chain_timeouts_ms bigint[])
  returns void
  language plpgsql volatile
  as $$ begin
    insert into perdure.run_limits (run_id, run_timeout_ms, start_timeout_ms, chain_timeout_ms, chain_deadline_at)
    select r.run_id, nullif(c.run_timeout_ms, 0), nullif(c.start_timeout_ms, 0), nullif(c.chain_timeout_ms, 0),
      r.created_at + nullif(c.chain_timeout_ms, 0) * interval '1 ms'
    from unnest(run_ids, run_timeouts_ms, start_timeouts_ms, chain_timeouts_ms)
      as c(run_id, run_timeout_ms, start_timeout_ms, chain_timeout_ms)
    cross join lateral (select x.run_id, x.created_at from perdure.workflow_runs x where x.run_id = c.run_id limit 1) r;
    perform perdure.apply_limits(run_ids);
  end $$;

-- Limits the successors of runs: the chain's deadline stays, the other timeouts count anew. A run timeout that is null is that of the
-- run before, 0 is none.
create function perdure.continue_limits(run_ids uuid[], next_ids uuid[], run_timeouts_ms bigint[]) returns void
  language plpgsql volatile
  as $$ begin
    insert into perdure.run_limits (run_id, run_timeout_ms, start_timeout_ms, chain_timeout_ms, chain_deadline_at)
    select c.next_id, nullif(coalesce(c.run_timeout_ms, l.run_timeout_ms), 0), l.start_timeout_ms, l.chain_timeout_ms, l.chain_deadline_at
    from unnest(run_ids, next_ids, run_timeouts_ms) as c(run_id, next_id, run_timeout_ms)
    cross join lateral (select * from perdure.run_limits x where x.run_id = c.run_id limit 1) l;
    if found then perform perdure.apply_limits(next_ids); end if;
  end $$;

-- Limits a run that a person has retried, or started again as another one: all timeouts count anew.
create function perdure.renew_limits(origin uuid, renewed_run uuid) returns void
  language plpgsql volatile
  as $$ begin
    insert into perdure.run_limits (run_id, run_timeout_ms, start_timeout_ms, chain_timeout_ms, chain_deadline_at)
    select renewed_run, l.run_timeout_ms, l.start_timeout_ms, l.chain_timeout_ms, perdure.clock() + l.chain_timeout_ms * interval '1 ms'
    from perdure.run_limits l where l.run_id = origin
    on conflict (run_id) do update set chain_deadline_at = excluded.chain_deadline_at;
    if found then perform perdure.apply_limits(array[renewed_run]); end if;
  end $$;

-- What is known of the workers that a run has lost. Written by the sweep alone; the latest 20 of a run are kept until it is deleted.
create table perdure.lost_leases (
  run_id          uuid        not null,
  worker_id       uuid        not null,
  lost_at         timestamptz not null,
  -- The worker's last sign of life: a heartbeat, or a renewal of this lease.
  last_seen_at    timestamptz not null,
  lease_token     integer     not null check (lease_token >= 1),
  -- Towards max_lost_leases.
  counted         boolean     not null,
  worker_identity text        not null default '',
  build           text        not null default '',
  -- Steps whose bodies were recorded as begun.
  open_steps      text[]      not null default '{}',
  primary key (run_id, lease_token)
);

-- Those of a run, the latest last, as they are kept in failures.
create function perdure.lost_leases_of(lost_run uuid, latest integer) returns jsonb
  language sql stable
  as $$
    select jsonb_agg(jsonb_build_object('leaseToken', l.lease_token, 'workerId', l.worker_id, 'workerIdentity', l.worker_identity,
      'build', l.build, 'lastSeenAt', l.last_seen_at, 'lostAt', l.lost_at, 'openSteps', to_jsonb(l.open_steps), 'counted', l.counted)
      order by l.lease_token)
    from (select * from perdure.lost_leases x where x.run_id = lost_run order by x.lease_token desc limit latest) l
  $$;
`;
