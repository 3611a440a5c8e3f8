/** Updates, which are signals that are answered; the state of a run; signals that start their run. */
export const updates = `
-- What the code of a run has set last, for readers outside. A table of its own, so that the row of the run does not grow.
create table perdure.run_states (
  run_id           uuid        primary key,
  updated_at       timestamptz not null,
  -- The latest SetRunState: lease token * 2^32 + its number under the lease.
  place            bigint      not null,
  payload          bytea,
  payload_encoding text
);
alter table perdure.run_states set (fillfactor = 70, toast_tuple_target = 512, autovacuum_vacuum_scale_factor = 0.05,
  autovacuum_vacuum_cost_delay = 1);
alter table perdure.run_states alter column payload set storage external;

create table perdure.run_updates (
  run_id           uuid        not null,
  sent_at          timestamptz not null,
  answered_at      timestamptz,
  seq              integer     not null check (seq >= 1),
  name             text        not null,
  request_id       text        not null,
  -- Who sent it, for people.
  sender           text        not null default '',
  -- The step that received it.
  step_id          text,
  answer           text        check (answer in ('COMPLETED', 'FAILED', 'REFUSED')),
  payload          bytea,
  payload_encoding text,
  output           bytea,
  output_encoding  text,
  failure          jsonb,
  primary key (run_id, seq),
  constraint answered_once check ((answer is null) = (answered_at is null)),
  constraint output_iff_completed check (output is null or answer = 'COMPLETED'),
  constraint failure_iff_not check ((failure is not null) = coalesce(answer in ('FAILED', 'REFUSED'), false))
);
alter table perdure.run_updates set (toast_tuple_target = 512, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);
alter table perdure.run_updates alter column payload set storage external;
alter table perdure.run_updates alter column output set storage external;
create unique index run_updates_request_id on perdure.run_updates (run_id, request_id);
-- The next update to receive. One that was refused is not received again after a cut.
create index run_updates_unreceived on perdure.run_updates (run_id, seq) where step_id is null and answer is distinct from 'REFUSED';
create unique index run_updates_received on perdure.run_updates (run_id, step_id) where step_id is not null;
-- For the bound of a run.
create index run_updates_unanswered on perdure.run_updates (run_id) where answer is null;

-- The signal was sent by SignalWithStart: its request id is known in the namespace, not only in the run.
alter table perdure.signals add column with_start boolean not null default false;
create index signals_with_start on perdure.signals (request_id) where with_start and request_id is not null;

-- Gives the oldest update that no step has received to a step that begins to wait, in a locked run.
create function perdure.bind_update(waiting_run uuid, waiting_step text)
  returns table (status text, output bytea, output_encoding text, failure jsonb)
  language plpgsql volatile
  as $$ begin
    return query
    update perdure.run_updates s set step_id = waiting_step
    where s.ctid = (
      select u.ctid from perdure.run_updates u
      where u.run_id = waiting_run and u.step_id is null and u.answer is distinct from 'REFUSED' order by u.seq limit 1)
    returning 'COMPLETED', s.payload, s.payload_encoding, null::jsonb;
  end $$;

create or replace function perdure.bind_arrival(waiting_run uuid, waiting_step text, waiting_kind text, awaited text)
  returns table (status text, output bytea, output_encoding text, failure jsonb)
  language plpgsql volatile
  as $$ begin
    case waiting_kind
      when 'SIGNAL' then return query select * from perdure.bind_signal(waiting_run, waiting_step, awaited);
      when 'EVENT' then return query select * from perdure.bind_event(waiting_run, waiting_step, awaited);
      when 'PROMISE' then return query select * from perdure.bind_promise(waiting_run, waiting_step, awaited);
      when 'UPDATE' then return query select * from perdure.bind_update(waiting_run, waiting_step);
      else null;
    end case;
  end $$;

-- Sends updates: each is kept in the order of sending, and given at once to the first step that waits for updates.
create function perdure.send_updates(run_ids uuid[], namespaces text[], names text[], payloads bytea[], encodings text[], request_ids text[],
    senders text[], max_unanswered integer)
  returns table (ord integer, verdict text, seq integer, answered boolean, status text, woken boolean, task_queue text, workflow_type text,
    leased_by uuid, lease_token integer)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  begin
    perform perdure.lock_runs(run_ids);
    return query
    with command as (
      select t.*, row_number() over (partition by t.run_id, t.request_id order by t.ord) as use
      from unnest(run_ids, namespaces, names, payloads, encodings, request_ids, senders)
        with ordinality as t(run_id, namespace, name, payload, payload_encoding, request_id, sender, ord)
    ),
    run as materialized (
      select r.run_id, r.namespace, r.status, r.finished_at, r.arrivals_awaited,
        (select count(*) from (
          select 1 from perdure.run_updates u where u.run_id = r.run_id and u.answer is null limit max_unanswered) x
        )::int as unanswered,
        coalesce((select u.seq from perdure.run_updates u where u.run_id = r.run_id order by u.seq desc limit 1), 0) as last_seq
      from (select distinct run_id from command) c
      cross join lateral (select * from perdure.workflow_runs x where x.run_id = c.run_id limit 1) r
    ),
    known as materialized (
      select c.*, r.status as run_status, r.last_seq, r.unanswered, k.seq as known_seq, k.answer as known_answer,
        case
          when r.run_id is null or r.namespace <> c.namespace then 'run_not_found'
          when k.seq is not null or c.use > 1 then 'duplicate'
          when r.finished_at is not null then 'run_closed'
        end as refusal
      from command c
      left join run r on r.run_id = c.run_id
      left join lateral (
        select x.seq, x.answer from perdure.run_updates x where x.run_id = c.run_id and x.request_id = c.request_id limit 1) k on true
    ),
    numbered as materialized (
      select k.*, row_number() over (partition by k.run_id order by k.ord) as nth
      from (
        select *, row_number() over (partition by run_id, refusal order by ord) + unanswered > max_unanswered as is_excess from known
      ) k
      where k.refusal is null and not k.is_excess
    ),
    -- A step that waits for updates means that none is left unreceived.
    receiver as materialized (
      select w.run_id, s.step_id, s.step_at, row_number() over (partition by w.run_id order by s.seq) as nth
      from (select run_id, count(*) as updates from numbered group by run_id) w
      cross join lateral (
        select x.step_id, x.seq, x.ctid as step_at from perdure.step_runs x
        where x.run_id = w.run_id and x.kind = 'UPDATE' and x.awaits = '' and x.status = 'RUNNING'
        order by x.seq limit w.updates) s
    ),
    given as materialized (
      select n.*, (n.last_seq + n.nth)::int as seq, v.step_id, v.step_at from numbered n left join receiver v on v.run_id = n.run_id and v.nth = n.nth
    ),
    stored as (
      insert into perdure.run_updates (run_id, sent_at, seq, name, request_id, sender, step_id, payload, payload_encoding)
      select run_id, perdure.clock(), seq, name, request_id, sender, step_id, payload, payload_encoding from given
      returning 1
    ),
    received as (
      update perdure.step_runs s
      set status = 'COMPLETED', output = g.payload, output_encoding = g.payload_encoding, finished_at = perdure.clock(), is_arrived = true
      from given g
      where s.ctid = g.step_at
      returning 1
    ),
    changed as (
      update perdure.workflow_runs r
      set has_arrivals = true,
        arrivals_awaited = greatest(r.arrivals_awaited - t.arrivals, 0),
        status = case when w.wakes then 'PENDING' else r.status end,
        available_at = case when w.wakes then perdure.clock() else r.available_at end,
        wake_at = case when w.wakes then null else r.wake_at end,
        waits = case when w.wakes then null else r.waits end,
        updated_at = case when w.wakes then perdure.clock() else r.updated_at end
      from (select run_id, count(step_id)::int as arrivals from given group by run_id) t
      cross join lateral (
        select x.status = 'WAITING' and x.arrivals_awaited <= t.arrivals as wakes from run x where x.run_id = t.run_id) w
      where r.run_id = t.run_id and t.arrivals > 0
      returning r.run_id, w.wakes, r.task_queue, r.workflow_type, r.leased_by, r.lease_token
    )
    select k.ord::int,
      case when k.refusal is not null then k.refusal when g.seq is null then 'too_many' else 'sent' end,
      coalesce(g.seq, k.known_seq)::int, k.known_answer is not null, k.run_status, coalesce(c.wakes, false), c.task_queue, c.workflow_type,
      c.leased_by, c.lease_token
    from known k
    left join given g on g.ord = k.ord
    left join changed c on c.run_id = k.run_id and g.step_id is not null
    order by k.ord;
  end $$;

-- The steps after cut_seq are taken back: the updates that they have received are received again, in the order of sending. An answer
-- stays the answer; what a handler has changed in the code's memory is done again.
create function perdure.free_updates(retried_run uuid, cut_seq integer) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.run_updates u
    set step_id = null
    from perdure.step_runs s
    where s.run_id = retried_run and s.seq > cut_seq and s.kind = 'UPDATE' and s.is_latest
      and u.run_id = retried_run and u.step_id = s.step_id;
  end $$;
`;
