/** Bulk operations: one action on all runs that match a filter (decision 0031). */
export const bulkOperations = `
create table perdure.bulk_operations (
  operation_id     uuid        primary key,
  created_at       timestamptz not null,
  updated_at       timestamptz not null,
  finished_at      timestamptz,
  -- When the next chunk may begin. A server that works on a chunk holds the lock of the row meanwhile.
  due_at           timestamptz,
  namespace        text        not null,
  kind             text        not null check (kind in
    ('CANCEL', 'TERMINATE', 'PAUSE', 'RESUME', 'RETRY', 'SIGNAL', 'DELETE', 'DISMISS')),
  status           text        not null check (status in ('RUNNING', 'PAUSED', 'COMPLETED', 'ABORTED')),
  actor            text        not null,
  reason           text        not null,
  request_id       text,
  filter           jsonb       not null,
  -- SIGNAL: what is sent.
  signal_name      text,
  payload          bytea,
  payload_encoding text,
  -- Runs per second.
  rate             integer     not null check (rate >= 1),
  -- Runs that matched when it was started; at least so many when it is not exact.
  matched          integer     not null check (matched >= 0),
  is_exact         boolean     not null,
  -- Runs up to this one were looked at, in the order of their ids.
  cursor_run_id    uuid,
  -- The runs of the chunk under way, for a kind whose effects are not one commit with the cursor.
  chunk            jsonb,
  changed          integer     not null default 0,
  unchanged        integer     not null default 0,
  refused          integer     not null default 0,
  -- The first runs that were refused, and why.
  refusals         jsonb       not null default '[]',
  -- Who started, paused, resumed and aborted it, when and why.
  actions          jsonb       not null,
  -- The server that did the last chunk, and why the last chunk could not be done; null when it could.
  worked_by        text,
  trouble          text,
  constraint due_iff_running check ((status = 'RUNNING') = (due_at is not null)),
  constraint finished_iff_ended check ((finished_at is not null) = (status in ('COMPLETED', 'ABORTED'))),
  constraint signal_has_name check ((kind = 'SIGNAL') = (signal_name is not null))
);
alter table perdure.bulk_operations set (fillfactor = 50);
create index bulk_operations_due on perdure.bulk_operations (due_at) where status = 'RUNNING';
create index bulk_operations_listed on perdure.bulk_operations (namespace, operation_id);
create unique index bulk_operations_request_id on perdure.bulk_operations (namespace, request_id) where request_id is not null;

-- What a person did to an operation, for its column actions; the latest 100 are kept.
create function perdure.with_bulk_action(actions jsonb, action text, by_actor text, for_reason text) returns jsonb
  language sql volatile
  as $$
    select (case when jsonb_array_length(actions) >= 100 then actions - 1 else actions end)
      || jsonb_build_object('kind', action, 'at', (extract(epoch from perdure.clock()) * 1000)::float8, 'actor', by_actor, 'reason', for_reason)
  $$;
`;
