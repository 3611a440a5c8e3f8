/**
 * Events and durable promises: two kinds of what comes from outside (decision 0020).
 *
 * Publishing and the beginning of a wait meet through advisory locks, which both take before they lock any run, in the order of their
 * numbers. A publisher with a key excludes waits for that key, and waits for any key exclude publishers of the name; nothing else
 * waits for anything else. So an event is found by the wait, or finds it. A publisher waits for no run while it holds them: runs that are
 * locked are left to the statements that follow it.
 */
export const events = `
create table perdure.events (
  event_id         uuid        primary key,
  published_at     timestamptz not null,
  expires_at       timestamptz not null,
  -- Every wait that was open when it was published has received it.
  is_spread        boolean     not null default false,
  -- Waits up to this place have received it.
  spread_to        text        not null default '' collate "C",
  namespace        text        not null,
  name             text        not null,
  -- Empty: it has none.
  key              text        not null default '',
  request_id       text,
  payload          bytea,
  payload_encoding text
);
alter table perdure.events set (toast_tuple_target = 512, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);
alter table perdure.events alter column payload set storage external;
create unique index events_request_id on perdure.events (namespace, name, request_id) where request_id is not null;
-- Waits that look back, for any key and for one; lists.
create index events_named on perdure.events (namespace, name, published_at, event_id);
create index events_keyed on perdure.events (namespace, name, key, published_at, event_id) where key <> '';
create index events_listed on perdure.events (namespace, published_at, event_id);
create index events_unspread on perdure.events (namespace, name, key, published_at, event_id) where not is_spread;
create index events_oldest_unspread on perdure.events (published_at, event_id) where not is_spread;
create index events_expiry on perdure.events (expires_at);

-- Which wait received which event: a wait that looks back finds none that its run has received.
create table perdure.event_receipts (
  event_id    uuid        not null,
  run_id      uuid        not null,
  received_at timestamptz not null,
  step_id     text        not null,
  primary key (event_id, run_id, step_id)
);
alter table perdure.event_receipts set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);

-- What a wait for events is found by. A wait is JSON: namespace, name, and, when given, key, lookBackMs, since.
create function perdure.event_topic(namespace text, name text, key text) returns text
  language sql immutable parallel safe
  as $$ select namespace || E'\\n' || name || coalesce(E'\\n' || key, '') $$;
create function perdure.awaited_topic(awaits text) returns text
  language sql immutable parallel safe
  as $$ select perdure.event_topic(awaits::jsonb->>'namespace', awaits::jsonb->>'name', awaits::jsonb->>'key') $$;
-- The place of a wait among those of an event. One text, so that no other index has this order and is taken for it.
create function perdure.wait_place(run_id uuid, step_id text) returns text
  language sql immutable parallel safe
  as $$ select (run_id::text || ' ' || step_id) collate "C" $$;
create index step_runs_event on perdure.step_runs ((perdure.awaited_topic(awaits)), (perdure.wait_place(run_id, step_id)) collate "C")
  where kind = 'EVENT' and status = 'RUNNING' and awaits is not null;
-- Promises by id, also those that are settled.
create index step_runs_promise on perdure.step_runs (awaits) where kind = 'PROMISE' and is_latest and awaits is not null;
create index step_runs_promise_pending on perdure.step_runs (run_id, seq) where kind = 'PROMISE' and status = 'RUNNING';

create function perdure.event_lock(namespace text, name text, key text) returns bigint
  language sql immutable parallel safe
  as $$ select hashtextextended('event' || E'\\n' || perdure.event_topic(namespace, name, key), 0) $$;

create function perdure.lock_events(locks bigint[], are_exclusive boolean[]) returns void
  language plpgsql volatile
  as $$
  declare
    wanted record;
  begin
    for wanted in
      select l.lock, bool_or(l.is_exclusive) as is_exclusive
      from unnest(locks, are_exclusive) as l(lock, is_exclusive) where l.lock is not null group by l.lock order by l.lock
    loop
      if wanted.is_exclusive then perform pg_advisory_xact_lock(wanted.lock);
      else perform pg_advisory_xact_lock_shared(wanted.lock);
      end if;
    end loop;
  end $$;

-- Events from this time on count for a wait. The beginning of a wait is that of its first attempt: a run-level retry may cut a wait and
-- begin it again.
create function perdure.event_wait_since(waiting_run uuid, waiting_step text, awaited text, begun timestamptz) returns timestamptz
  language sql stable
  as $$
    select case when awaited::jsonb ? 'since' then (awaited::jsonb->>'since')::timestamptz
      else least(begun, (
          select min(x.started_at) from perdure.step_runs x
          where x.run_id = waiting_run and x.step_id = waiting_step and x.kind = 'EVENT'))
        - coalesce((awaited::jsonb->>'lookBackMs')::float8, 0) * interval '1 ms' end
  $$;

create function perdure.bind_event(waiting_run uuid, waiting_step text, awaited text)
  returns table (status text, output bytea, output_encoding text, failure jsonb)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  declare
    wanted_namespace text := awaited::jsonb->>'namespace';
    wanted_name text := awaited::jsonb->>'name';
    wanted_key text := awaited::jsonb->>'key';
    since timestamptz := perdure.event_wait_since(waiting_run, waiting_step, awaited, perdure.clock());
    found_id uuid;
  begin
    if wanted_key is null then
      select e.event_id into found_id
      from perdure.events e
      where e.namespace = wanted_namespace and e.name = wanted_name and e.published_at >= since and e.expires_at > perdure.clock()
        and not perdure.has_received(e.event_id, waiting_run, waiting_step)
      order by e.published_at, e.event_id limit 1;
    else
      select e.event_id into found_id
      from perdure.events e
      where e.namespace = wanted_namespace and e.name = wanted_name and e.key = wanted_key and e.key <> ''
        and e.published_at >= since and e.expires_at > perdure.clock()
        and not perdure.has_received(e.event_id, waiting_run, waiting_step)
      order by e.published_at, e.event_id limit 1;
    end if;
    if found_id is null then return; end if;
    insert into perdure.event_receipts as r (event_id, run_id, received_at, step_id)
    values (found_id, waiting_run, perdure.clock(), waiting_step)
    on conflict (event_id, run_id, step_id) do update set received_at = excluded.received_at;
    return query
    select 'COMPLETED', e.payload, e.payload_encoding, null::jsonb from perdure.events e where e.event_id = found_id;
  end $$;

-- Whether another wait of the run, which was not cut since, has received the event.
create function perdure.has_received(event uuid, receiving_run uuid, beside_step text) returns boolean
  language sql stable
  as $$
    select exists (
      select 1 from perdure.event_receipts r
      join perdure.step_runs s on s.run_id = r.run_id and s.step_id = r.step_id and s.attempt_key = 0
      where r.event_id = event and r.run_id = receiving_run and r.step_id <> beside_step and not s.is_cut)
  $$;

-- A promise that was settled before its wait was cut stays settled.
create function perdure.bind_promise(waiting_run uuid, waiting_step text, awaited text)
  returns table (status text, output bytea, output_encoding text, failure jsonb)
  language plpgsql volatile
  as $$ begin
    return query
    select x.status, x.output, x.output_encoding, x.failure
    from perdure.step_runs x
    where x.run_id = waiting_run and x.step_id = waiting_step and x.kind = 'PROMISE' and x.awaits = awaited and x.is_cut
      and x.status in ('COMPLETED', 'FAILED')
    order by x.attempt_number desc limit 1;
  end $$;

create or replace function perdure.bind_arrival(waiting_run uuid, waiting_step text, waiting_kind text, awaited text)
  returns table (status text, output bytea, output_encoding text, failure jsonb)
  language plpgsql volatile
  as $$ begin
    case waiting_kind
      when 'SIGNAL' then return query select * from perdure.bind_signal(waiting_run, waiting_step, awaited);
      when 'EVENT' then return query select * from perdure.bind_event(waiting_run, waiting_step, awaited);
      when 'PROMISE' then return query select * from perdure.bind_promise(waiting_run, waiting_step, awaited);
      else null;
    end case;
  end $$;

-- As await_steps, with the locks of events, which come before those of runs.
create function perdure.await_event_steps(run_ids uuid[], namespaces text[], lease_tokens integer[], step_ids text[], seqs integer[],
    kinds text[], attempt_numbers integer[], awaiting text[], timeouts_ms float8[], event_seqs integer[], uncancellables boolean[])
  returns table (ord integer, verdict text, attempt_number integer, status text, output bytea, output_encoding text, failure jsonb,
    finished_at timestamptz, remaining_ms float8, recorded_kind text, recorded_seq integer)
  language plpgsql volatile
  as $$ begin
    perform perdure.lock_events(array_agg(perdure.event_lock(w.j->>'namespace', w.j->>'name', w.j->>'key')), array_agg(not w.j ? 'key'))
    from (select a::jsonb as j from unnest(kinds, awaiting) as t(kind, a) where kind = 'EVENT') w;
    return query
    select * from perdure.await_steps(run_ids, namespaces, lease_tokens, step_ids, seqs, kinds, attempt_numbers, awaiting, timeouts_ms,
      event_seqs, uncancellables);
  end $$;

-- Arrivals have come for locked runs: those that are suspended and wait for no more of them are claimable.
create function perdure.note_arrivals(run_ids uuid[], counts integer[])
  returns table (run_id uuid, woken boolean, namespace text, task_queue text, workflow_type text, leased_by uuid, lease_token integer)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  begin
    return query
    update perdure.workflow_runs r
    set has_arrivals = true,
      arrivals_awaited = greatest(r.arrivals_awaited - t.arrivals, 0),
      status = case when t.wakes then 'PENDING' else r.status end,
      available_at = case when t.wakes then perdure.clock() else r.available_at end,
      wake_at = case when t.wakes then null else r.wake_at end,
      waits = case when t.wakes then null else r.waits end,
      updated_at = case when t.wakes then perdure.clock() else r.updated_at end
    from (
      select x.run_id, c.arrivals, x.status = 'WAITING' and x.arrivals_awaited <= c.arrivals as wakes
      from unnest(run_ids, counts) as c(run_id, arrivals)
      join perdure.workflow_runs x on x.run_id = c.run_id) t
    where r.run_id = t.run_id
    returning r.run_id, t.wakes, r.namespace, r.task_queue, r.workflow_type, r.leased_by, r.lease_token;
  end $$;

-- Gives an event to the next waits that were open when it was published, in the order of run id and step id.
create function perdure.spread_event(spread_id uuid, max_steps integer, max_bytes float8, is_patient boolean)
  returns table (run_id uuid, woken boolean, namespace text, task_queue text, workflow_type text, leased_by uuid, lease_token integer,
    steps integer)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  declare
    event perdure.events;
    for_any text;
    for_key text;
    batch integer;
    runs uuid[];
    step_ids text[];
    places text[];
    locked uuid[];
    first_left integer;
  begin
    select e.* into event from perdure.events e where e.event_id = spread_id and not e.is_spread;
    if not found then return; end if;
    for_any := perdure.event_topic(event.namespace, event.name, null);
    for_key := case when event.key <> '' then perdure.event_topic(event.namespace, event.name, event.key) end;
    batch := greatest(1, least(max_steps, floor(max_bytes / (200 + coalesce(octet_length(event.payload), 0)))));
    select coalesce(array_agg(w.run_id order by w.place), '{}'), coalesce(array_agg(w.step_id order by w.place), '{}'),
      coalesce(array_agg(w.place order by w.place), '{}')
    into runs, step_ids, places
    from (
      select * from (
        (select s.run_id, s.step_id, perdure.wait_place(s.run_id, s.step_id) collate "C" as place from perdure.step_runs s
        where s.kind = 'EVENT' and s.status = 'RUNNING' and s.awaits is not null and perdure.awaited_topic(s.awaits) = for_any
          and perdure.wait_place(s.run_id, s.step_id) collate "C" > event.spread_to
          and perdure.receives(event.event_id, event.published_at, s.run_id, s.step_id, s.awaits, s.started_at)
        order by perdure.wait_place(s.run_id, s.step_id) collate "C" limit batch)
        union all
        (select s.run_id, s.step_id, perdure.wait_place(s.run_id, s.step_id) collate "C" as place from perdure.step_runs s
        where s.kind = 'EVENT' and s.status = 'RUNNING' and s.awaits is not null and perdure.awaited_topic(s.awaits) = for_key
          and perdure.wait_place(s.run_id, s.step_id) collate "C" > event.spread_to
          and perdure.receives(event.event_id, event.published_at, s.run_id, s.step_id, s.awaits, s.started_at)
        order by perdure.wait_place(s.run_id, s.step_id) collate "C" limit batch)) both_topics
      order by place limit batch) w;
    if is_patient then
      perform perdure.lock_runs(runs);
      select coalesce(array_agg(distinct r), '{}') into locked from unnest(runs) r;
    else
      select coalesce(array_agg(l.run_id), '{}') into locked from (
        select r.run_id from perdure.workflow_runs r where r.run_id = any(runs) order by r.run_id for no key update skip locked) l;
    end if;
    return query
    -- By key, one after the other: joined in another way, each would be judged once for every run.
    with judged as materialized (
      select s.step_at
      from unnest(runs, step_ids) as c(run_id, step_id)
      join unnest(locked) as l(run_id) on l.run_id = c.run_id
      cross join lateral (
        select x.*, x.ctid as step_at from perdure.step_runs x
        where x.run_id = c.run_id and x.step_id = c.step_id and x.attempt_key = 0 limit 1) s
      where s.kind = 'EVENT' and s.status = 'RUNNING' and perdure.awaited_topic(s.awaits) in (for_any, for_key)
        and perdure.receives(event.event_id, event.published_at, s.run_id, s.step_id, s.awaits, s.started_at)
    ),
    given as (
      update perdure.step_runs s
      set status = 'COMPLETED', output = event.payload, output_encoding = event.payload_encoding, finished_at = perdure.clock(),
        is_arrived = true
      from judged j
      where s.ctid = j.step_at
      returning s.run_id, s.step_id
    ),
    received as (
      insert into perdure.event_receipts (event_id, run_id, received_at, step_id)
      select event.event_id, g.run_id, perdure.clock(), g.step_id from given g
      on conflict (event_id, run_id, step_id) do update set received_at = excluded.received_at
      returning 1
    ),
    total as (select g.run_id, count(*)::int as arrivals from given g group by g.run_id)
    select n.*, t.arrivals
    from (select array_agg(run_id) as run_ids, array_agg(arrivals) as counts from total) a
    cross join lateral perdure.note_arrivals(a.run_ids, a.counts) n
    join total t on t.run_id = n.run_id;
    if not is_patient then
      select min(c.position) into first_left
      from unnest(runs) with ordinality as c(run_id, position)
      left join unnest(locked) as l(run_id) on l.run_id = c.run_id
      where l.run_id is null;
    end if;
    update perdure.events e
    set is_spread = first_left is null and cardinality(runs) < batch,
      spread_to = coalesce(places[coalesce(first_left, cardinality(runs) + 1) - 1], e.spread_to)
    where e.event_id = spread_id;
  end $$;

-- Whether a wait was open when the event was published, or looks back to it, and its run did not receive it before the wait began.
create function perdure.receives(event uuid, published_at timestamptz, waiting_run uuid, waiting_step text, awaited text, begun timestamptz)
  returns boolean
  language sql stable
  as $$
    select perdure.event_wait_since(waiting_run, waiting_step, awaited, begun) <= published_at and not exists (
      select 1 from perdure.event_receipts r
      where r.event_id = event and r.run_id = waiting_run and r.step_id <> waiting_step and r.received_at <= begun)
  $$;

-- Publishes events. One row per event, and one per run that has received it.
create function perdure.publish_events(event_ids uuid[], namespaces text[], names text[], keys text[], request_ids text[], payloads bytea[],
    encodings text[], retention_ms float8, max_steps integer, max_bytes float8)
  returns table (ord integer, verdict text, event_id uuid, published_at timestamptz, is_spread boolean, steps integer,
    run_id uuid, woken boolean, task_queue text, workflow_type text, leased_by uuid, lease_token integer)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  declare
    command record;
    stored record;
    left_steps integer := max_steps;
    given integer;
    arrival record;
  begin
    perform perdure.lock_events(array_agg(l.lock), array_agg(l.is_exclusive))
    from unnest(namespaces, names, keys) as c(namespace, name, key)
    cross join lateral (values
      (perdure.event_lock(c.namespace, c.name, null), false),
      (case when c.key <> '' then perdure.event_lock(c.namespace, c.name, c.key) end, true)) l(lock, is_exclusive);
    for command in
      select * from unnest(event_ids, namespaces, names, keys, request_ids, payloads, encodings)
        with ordinality as t(event_id, namespace, name, key, request_id, payload, payload_encoding, ord)
    loop
      ord := command.ord;
      run_id := null;
      if not exists (select 1 from perdure.namespaces n where n.name = command.namespace) then
        verdict := 'namespace_not_found';
        return next;
        continue;
      end if;
      insert into perdure.events as e (event_id, published_at, expires_at, namespace, name, key, request_id, payload, payload_encoding)
      values (command.event_id, perdure.clock(), perdure.clock() + retention_ms * interval '1 ms', command.namespace, command.name,
        command.key, command.request_id, command.payload, command.payload_encoding)
      on conflict do nothing
      returning e.event_id, e.published_at into stored;
      if not found then
        -- The same event: a part of a batch is written again when another part of it was refused.
        select e.event_id, e.published_at, e.is_spread into stored from perdure.events e where e.event_id = command.event_id;
        verdict := 'published';
        if not found then
          select e.event_id, e.published_at, e.is_spread into stored
          from perdure.events e
          where e.namespace = command.namespace and e.name = command.name and e.request_id = command.request_id;
          verdict := 'duplicate';
        end if;
        event_id := stored.event_id;
        published_at := stored.published_at;
        is_spread := stored.is_spread;
        steps := 0;
        return next;
        continue;
      end if;
      event_id := stored.event_id;
      published_at := stored.published_at;
      given := 0;
      -- Waits receive events of one name and key in the order of publication, so an event waits for older ones.
      if left_steps > 0 and not exists (
        select 1 from perdure.events e
        where e.namespace = command.namespace and e.name = command.name and e.key = command.key and not e.is_spread
          and e.event_id <> stored.event_id)
      then
        for arrival in select * from perdure.spread_event(stored.event_id, left_steps, max_bytes, false) loop
          given := given + arrival.steps;
          verdict := 'arrival';
          run_id := arrival.run_id;
          woken := arrival.woken;
          task_queue := arrival.task_queue;
          workflow_type := arrival.workflow_type;
          leased_by := arrival.leased_by;
          lease_token := arrival.lease_token;
          return next;
        end loop;
      end if;
      left_steps := left_steps - given;
      run_id := null;
      verdict := 'published';
      steps := given;
      select e.is_spread into is_spread from perdure.events e where e.event_id = stored.event_id;
      return next;
    end loop;
  end $$;

-- Continues to spread events, the oldest first. One row per run that has received one, and one that says whether there is more to do.
-- Only the first event waits for runs that are locked, so the statement never waits for runs in two orders.
create function perdure.spread_events(max_steps integer, max_bytes float8)
  returns table (has_more boolean, run_id uuid, woken boolean, namespace text, task_queue text, workflow_type text, leased_by uuid,
    lease_token integer)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  declare
    oldest record;
    arrival record;
    topic text;
    unfinished text[] := '{}';
    left_steps integer := max_steps;
    is_first boolean := true;
  begin
    for oldest in
      select e.event_id, e.namespace, e.name, e.key from perdure.events e where not e.is_spread
      order by e.published_at, e.event_id limit 200
    loop
      exit when left_steps <= 0;
      topic := perdure.event_topic(oldest.namespace, oldest.name, oldest.key);
      -- One at a time for each name and key, so that their events keep their order.
      continue when topic = any(unfinished)
        or not pg_try_advisory_xact_lock(hashtextextended('spread' || E'\\n' || topic, 0));
      for arrival in select * from perdure.spread_event(oldest.event_id, left_steps, max_bytes, is_first) loop
        left_steps := left_steps - arrival.steps;
        run_id := arrival.run_id;
        woken := arrival.woken;
        namespace := arrival.namespace;
        task_queue := arrival.task_queue;
        workflow_type := arrival.workflow_type;
        leased_by := arrival.leased_by;
        lease_token := arrival.lease_token;
        return next;
      end loop;
      is_first := false;
      if exists (select 1 from perdure.events e where e.event_id = oldest.event_id and not e.is_spread) then
        unfinished := unfinished || topic;
      end if;
    end loop;
    run_id := null;
    has_more := exists (select 1 from perdure.events e where not e.is_spread);
    return next;
  end $$;

-- Settles promises, once each. No two commands name the same promise.
create function perdure.settle_promises(ids text[], namespaces text[], statuses text[], outputs bytea[], encodings text[], failures jsonb[])
  returns table (ord integer, verdict text, status text, run_id uuid, namespace text, woken boolean, task_queue text, workflow_type text,
    leased_by uuid, lease_token integer)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  declare
    locked uuid[];
  begin
    select coalesce(array_agg(s.run_id), '{}') into locked
    from perdure.step_runs s where s.kind = 'PROMISE' and s.is_latest and s.awaits is not null and s.awaits = any(ids);
    perform perdure.lock_runs(locked);
    return query
    with command as (
      select * from unnest(ids, namespaces, statuses, outputs, encodings, failures)
        with ordinality as t(id, namespace, status, output, output_encoding, failure, ord)
    ),
    judged as materialized (
      select c.*, p.run_id, p.step_at, p.status as recorded_status, r.namespace as run_namespace,
        case
          when p.run_id is null or r.namespace <> c.namespace then 'promise_not_found'
          -- Recorded since the runs were locked: judged again with its run locked.
          when p.run_id <> all(locked) then 'raced'
          when p.status = 'RUNNING' then 'settle'
          -- A run-level retry has taken the wait back; it finds the outcome when it begins again.
          when p.is_cut and p.status = 'CANCELLED' and r.finished_at is null then 'keep'
          else 'already_settled'
        end as verdict
      from command c
      left join lateral (
        select x.*, x.ctid as step_at from perdure.step_runs x
        where x.kind = 'PROMISE' and x.is_latest and x.awaits is not null and x.awaits = c.id limit 1) p on true
      left join lateral (select * from perdure.workflow_runs x where x.run_id = p.run_id limit 1) r on true
    ),
    settled as (
      update perdure.step_runs s
      set status = j.status, output = j.output, output_encoding = j.output_encoding, failure = j.failure,
        finished_at = perdure.clock(), is_arrived = j.verdict = 'settle'
      from judged j
      where j.verdict in ('settle', 'keep') and s.ctid = j.step_at
      returning j.ord, s.run_id, s.is_arrived
    ),
    noted as materialized (
      select n.*
      from (
        select array_agg(run_id) as run_ids, array_agg(arrivals) as counts
        from (select run_id, count(*)::int as arrivals from settled where is_arrived group by run_id) t) a
      cross join lateral perdure.note_arrivals(a.run_ids, a.counts) n
    )
    select j.ord::int, case when s.ord is not null then 'settled' when j.verdict in ('settle', 'keep') then 'raced' else j.verdict end,
      case when s.ord is not null then j.status else j.recorded_status end, j.run_id, j.run_namespace, coalesce(n.woken, false), n.task_queue,
      n.workflow_type, n.leased_by, n.lease_token
    from judged j
    left join settled s on s.ord = j.ord
    left join noted n on n.run_id = j.run_id and s.is_arrived
    order by j.ord;
  end $$;
`;
