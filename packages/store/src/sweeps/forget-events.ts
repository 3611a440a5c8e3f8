/**
 * Deletes events that are no longer kept, and before them the notes which wait received them: a bounded number of either in each
 * statement. An event whose waits have not all received it is kept until they have.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';

/** A wait that found the event just before its end has noted so by then, in ms. */
const GRACE_MS = 60_000;
/** Notes per event of the limit. */
const RECEIPTS_PER_EVENT = 10;

const FORGET_EVENTS = defineStatement(
  'forget_events',
  `with expired as materialized (
    select e.event_id from perdure.events e
    where e.expires_at <= perdure.clock() - ${GRACE_MS} * interval '1 ms' and e.is_spread
    order by e.expires_at limit $1
    for update skip locked
  ),
  receipt as materialized (
    select r.event_id, r.run_id, r.step_id
    from expired e
    join perdure.event_receipts r on r.event_id = e.event_id
    limit $2
  ),
  forgotten as (
    delete from perdure.event_receipts r using receipt x
    where r.event_id = x.event_id and r.run_id = x.run_id and r.step_id = x.step_id
    returning 1
  ),
  deleted as (
    delete from perdure.events e using expired x
    where e.event_id = x.event_id and (select count(*) from receipt) < $2
    returning 1
  )
  select (select count(*) from deleted)::int as events, (select count(*) from forgotten)::int as receipts`,
);

/** @returns how many events were deleted, and whether there may be more */
export async function forgetEvents(
  db: Database,
  { limit }: { readonly limit: number },
): Promise<{ readonly events: number; readonly hasMore: boolean }> {
  const maxReceipts = limit * RECEIPTS_PER_EVENT;
  const [row] = await db.query<{ events: number; receipts: number }>(FORGET_EVENTS, [limit, maxReceipts]);
  const { events = 0, receipts = 0 } = row ?? {};
  return { events, hasMore: events >= limit || receipts >= maxReceipts };
}
