/** Requests about events, as commands and queries. */
import type { EventWait as EventWaitMessage, ListEventsRequest, PublishEventRequest } from '@perdure/proto';
import type { EventCursor, EventFilter, EventWait, PublishEvent } from '@perdure/store';
import { validate as isUuid, v7 as newUuid } from 'uuid';
import type { Checker } from './checker.js';
import { decodeName } from './name.js';
import { decodePageToken } from './page-token.js';

export function decodeEventWait(check: Checker, namespace: string, { name, key, since }: EventWaitMessage): EventWait {
  const wait = {
    namespace,
    name: decodeName(check, 'event.name', name),
    ...(key === '' ? {} : { key: check.optionalId('event.key', key) }),
  };
  switch (since.case) {
    case 'lookBack':
      return { ...wait, lookBackMs: check.duration('event.look_back', since.value, 0) };
    case 'publishedAfter': {
      const at = check.timestamp('event.published_after', since.value);
      return at === null ? wait : { ...wait, since: at.toISOString() };
    }
    case undefined:
      return wait;
  }
}

export function decodePublishEvent(check: Checker, request: PublishEventRequest, retentionMs: number): PublishEvent {
  return {
    namespace: check.namespace('namespace', request.namespace),
    eventId: newUuid(),
    name: decodeName(check, 'name', request.name),
    key: check.optionalId('key', request.key),
    payload: check.payload('payload', request.payload),
    requestId: check.optionalId('request_id', request.requestId) || null,
    retentionMs,
  };
}

export interface ListEvents {
  readonly filter: EventFilter;
  readonly limit: number;
  readonly after: EventCursor | null;
  readonly payloads: boolean;
}

export function decodeListEvents(check: Checker, request: ListEventsRequest): ListEvents {
  const filter: EventFilter = {
    namespace: check.namespace('namespace', request.namespace),
    name: check.optionalId('name', request.name) || null,
    key: check.optionalId('key', request.key) || null,
  };
  if (filter.key !== null && filter.name === null) check.violate('key', 'must be empty unless name is given.');
  return {
    filter,
    limit: check.pageSize('page_size', request.pageSize, 50),
    after: decodePageToken(check, 'page_token', request.pageToken, eventScope(filter), eventCursorOf),
    payloads: request.includePayloads,
  };
}

export const eventScope = (filter: EventFilter): unknown => ['events', filter];
export const eventCursorFields = ({ publishedAt, eventId }: EventCursor): unknown => [publishedAt, eventId];

/** A time as PostgreSQL writes it. */
const TIME = /^\d{4,6}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?[+-]\d\d(:\d\d)?$/;

function eventCursorOf(cursor: unknown): EventCursor | undefined {
  if (!Array.isArray(cursor) || cursor.length !== 2) return undefined;
  const [publishedAt, eventId] = cursor as unknown[];
  return typeof publishedAt === 'string' && TIME.test(publishedAt) && isUuid(eventId)
    ? { publishedAt, eventId: eventId as string }
    : undefined;
}
