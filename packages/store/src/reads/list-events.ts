/** Reads events that are kept. */
import type { Reader } from '../database/database.js';
import { payloadOf } from '../database/payload-columns.js';
import { defineStatement } from '../database/statement.js';
import type { Payload } from '../model.js';

export interface StoredEvent {
  readonly eventId: string;
  readonly namespace: string;
  readonly name: string;
  /** Empty: none. */
  readonly key: string;
  readonly requestId: string | null;
  readonly publishedAt: Date;
  readonly expiresAt: Date;
  /** Absent unless requested, and when it is large. */
  readonly payload?: Payload | null;
}
export interface EventFilter {
  readonly namespace: string;
  readonly name: string | null;
  readonly key: string | null;
}
/** Position in a list of events, newest first; the time has μs, which a Date has not. */
export interface EventCursor {
  readonly publishedAt: string;
  readonly eventId: string;
}
export interface EventPage {
  readonly events: readonly StoredEvent[];
  readonly next: EventCursor | null;
}

/** Larger payloads are left out of lists, because a thousand of them must fit one answer. In bytes. */
const MAX_LISTED_BYTES = 16_384;

const LIST_EVENTS = defineStatement(
  'list_events',
  `select e.event_id, e.namespace, e.name, e.key, e.request_id, e.published_at, e.expires_at, e.published_at::text as place,
    case when $7::boolean and octet_length(e.payload) <= $8::int then e.payload end as payload, e.payload_encoding
  from perdure.events e
  where e.namespace = $1 and ($2::text is null or e.name = $2) and ($3::text is null or e.key = $3) and e.expires_at > perdure.clock()
    and ($4::timestamptz is null or (e.published_at, e.event_id) < ($4::timestamptz, $5::uuid))
  order by e.published_at desc, e.event_id desc
  limit $6::int`,
);

interface Row {
  readonly event_id: string;
  readonly namespace: string;
  readonly name: string;
  readonly key: string;
  readonly request_id: string | null;
  readonly published_at: Date;
  readonly expires_at: Date;
  readonly place: string;
  readonly payload: Uint8Array | null;
  readonly payload_encoding: string | null;
}

/** @returns events, newest first */
export async function listEvents(
  db: Reader,
  filter: EventFilter,
  page: { readonly limit: number; readonly after: EventCursor | null; readonly payloads: boolean },
): Promise<EventPage> {
  const rows = await db.query<Row>(LIST_EVENTS, [
    filter.namespace,
    filter.name,
    filter.key,
    page.after?.publishedAt ?? null,
    page.after?.eventId ?? null,
    page.limit + 1,
    page.payloads,
    MAX_LISTED_BYTES,
  ]);
  const listed = rows.slice(0, page.limit);
  const last = listed.at(-1);
  return {
    events: listed.map((row) => ({
      eventId: row.event_id,
      namespace: row.namespace,
      name: row.name,
      key: row.key,
      requestId: row.request_id,
      publishedAt: row.published_at,
      expiresAt: row.expires_at,
      ...(page.payloads ? { payload: payloadOf(row.payload, row.payload_encoding) } : {}),
    })),
    next: rows.length > page.limit && last !== undefined ? { publishedAt: last.place, eventId: last.event_id } : null,
  };
}
