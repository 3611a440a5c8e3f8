/**
 * Publishes events. Each is kept for its retention, and given to every wait that is open: to the first ones in this statement, to the rest
 * by `spread_events`, in the order of run ids. The whole SQL is the function `perdure.publish_events`.
 *
 * Race closed: a wait that begins at the same time takes the same advisory lock before it locks its run. It is found here, or finds the
 * event. A run that is locked by somebody else is not waited for: `spread_events` gives it the event.
 *
 * A repeat of a request id publishes nothing while the first event is kept.
 */

import type { Database } from '../../database/database.js';
import { byteaArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { Payload } from '../../model.js';
import { type ArrivalRow, arrivalEffect, type ReachedRun } from '../parts/arrival-effect.js';
import { unknownVerdict, type VerdictRow } from '../parts/batch.js';

export interface PublishEvent {
  readonly namespace: string;
  /** A fresh UUID. */
  readonly eventId: string;
  readonly name: string;
  /** Empty: none. */
  readonly key: string;
  readonly payload: Payload | null;
  /** Null: every call publishes another event. */
  readonly requestId: string | null;
  /** How long it is kept. */
  readonly retentionMs: number;
}
export type PublishEventOutcome =
  | { readonly kind: 'namespace_not_found' }
  | ({ readonly kind: 'published'; readonly received: number; readonly reached: readonly ReachedRun[] } & Published)
  /** Published before, with the same request id. */
  | ({ readonly kind: 'already_published' } & Published);
interface Published {
  readonly eventId: string;
  readonly publishedAt: Date;
  /** Every wait that was open has received it; otherwise `spread_events` continues. */
  readonly isSpread: boolean;
}

/** Most waits that one statement ends: tens of ms. */
export const MAX_SPREAD_STEPS = 1_000;
/** Most bytes of payloads that one statement copies. */
export const MAX_SPREAD_BYTES = 16 * 1024 * 1024;
/** Most events of one statement: it takes two locks for each, and PostgreSQL has room for a limited number of them. */
const MAX_EVENTS = 50;

const PUBLISH_EVENTS = defineStatement(
  'publish_events',
  `select * from perdure.publish_events($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::float8,
    $9::int, $10::float8)`,
);

interface Row extends VerdictRow, ArrivalRow {
  readonly event_id: string;
  readonly published_at: Date;
  readonly is_spread: boolean;
  readonly steps: number;
  readonly run_id: string;
}

/** @returns one outcome per command, in their order */
export async function publishEvents(db: Database, commands: readonly PublishEvent[]): Promise<PublishEventOutcome[]> {
  const outcomes: PublishEventOutcome[] = [];
  for (let from = 0; from < commands.length; from += MAX_EVENTS) {
    outcomes.push(...(await publishSome(db, commands.slice(from, from + MAX_EVENTS))));
  }
  return outcomes;
}

async function publishSome(db: Database, commands: readonly PublishEvent[]): Promise<PublishEventOutcome[]> {
  const rows = await db.query<Row>(PUBLISH_EVENTS, [
    plainArray(commands, (command) => command.eventId),
    textArray(commands, (command) => command.namespace),
    textArray(commands, (command) => command.name),
    textArray(commands, (command) => command.key),
    textArray(commands, (command) => command.requestId),
    byteaArray(commands, (command) => command.payload?.data),
    textArray(commands, (command) => command.payload?.encoding),
    Math.max(...commands.map(({ retentionMs }) => retentionMs)),
    MAX_SPREAD_STEPS,
    MAX_SPREAD_BYTES,
  ]);
  const reachedBy = commands.map((): ReachedRun[] => []);
  const outcomes: PublishEventOutcome[] = [];
  for (const row of rows) {
    const { namespace } = commands[row.ord - 1] as PublishEvent;
    const reached = reachedBy[row.ord - 1] as ReachedRun[];
    if (row.verdict === 'arrival') {
      reached.push({ namespace, runId: row.run_id, effect: arrivalEffect(namespace, row) });
    } else outcomes.push(outcomeOf(row, reached));
  }
  return outcomes;
}

function outcomeOf(row: Row, reached: readonly ReachedRun[]): PublishEventOutcome {
  const event = { eventId: row.event_id, publishedAt: row.published_at, isSpread: row.is_spread };
  switch (row.verdict) {
    case 'namespace_not_found':
      return { kind: 'namespace_not_found' };
    case 'published':
      return { kind: 'published', received: row.steps, reached, ...event };
    case 'duplicate':
      return { kind: 'already_published', ...event };
    default:
      return unknownVerdict('publish_events', row.verdict);
  }
}
