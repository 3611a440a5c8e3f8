/**
 * The notifications that servers and reapers send each other. A lost notification only adds latency: its receiver finds the change
 * with its next fallback read. They are sent outside of transactions that change runs, because NOTIFY takes a global lock at commit.
 */
import { randomUUID } from 'node:crypto';
import type { QueueRef } from '../model.js';

/** Queues that have claimable runs, and notices for workers. Servers listen. */
export const WAKEUP_CHANNEL = 'perdure_wakeup';
/** Runs that have ended, and updates that are answered. Servers listen. */
export const ENDED_CHANNEL = 'perdure_ended';
/** A wake-up or deadline falls due soon. Reapers listen. */
export const TIMERS_CHANNEL = 'perdure_timers';

/** PostgreSQL refuses payloads of 8,000 bytes. */
const MAX_PAYLOAD_BYTES = 7_900;

/** Id of the sender: listeners ignore their own notifications. */
export const newSenderId = (): string => randomUUID();

export interface WakeupNote {
  readonly from: string;
  readonly queues: readonly QueueRef[];
}
/** What a worker should know before its next heartbeat. */
export type WorkerNotice = { readonly namespace: string; readonly workerId: string } & (
  | LeaseNotice
  | { readonly kind: 'drain' }
);
/** About a run that the worker holds. */
export interface LeaseNotice {
  readonly kind: (typeof LEASE_NOTICES)[number];
  readonly runId: string;
  readonly leaseToken: number;
}
const LEASE_NOTICES = ['cancel_requested', 'lease_lost', 'arrived', 'paused'] as const;
export interface NoticesNote {
  readonly from: string;
  readonly notices: readonly WorkerNotice[];
}
export interface EndedNote {
  readonly from: string;
  readonly runIds: readonly string[];
}
/** Updates that are answered, by run and request id. */
export interface AnsweredNote {
  readonly from: string;
  readonly updates: readonly { readonly runId: string; readonly requestId: string }[];
}
export interface TimersNote {
  /** Ms until a run is due; null: no change. */
  readonly wakeInMs: number | null;
  /** Ms until a deadline passes; null: no change. */
  readonly expiryInMs: number | null;
}

/** @returns as many payloads as the size limit requires */
export function encodeWakeup(note: WakeupNote): string[] {
  const unique = new Map(note.queues.map((queue) => [`${queue.namespace}\n${queue.taskQueue}`, queue]));
  return inChunks(
    [...unique.values()].map((queue) => JSON.stringify([queue.namespace, queue.taskQueue])),
    (items) => `{"from":"${note.from}","queues":[${items}]}`,
  );
}

/** @returns the note, or undefined when the payload is not from Perdure */
export function decodeWakeup(payload: string): WakeupNote | undefined {
  const note = parse(payload) as { from?: unknown; queues?: unknown } | undefined;
  if (typeof note?.from !== 'string' || !Array.isArray(note.queues)) return undefined;
  const queues = note.queues.flatMap((queue: unknown) =>
    Array.isArray(queue) && typeof queue[0] === 'string' && typeof queue[1] === 'string'
      ? [{ namespace: queue[0], taskQueue: queue[1] }]
      : [],
  );
  return { from: note.from, queues };
}

/** @returns as many payloads as the size limit requires */
export function encodeNotices(note: NoticesNote): string[] {
  return inChunks(
    note.notices.map((notice) => JSON.stringify(notice)),
    (items) => `{"from":"${note.from}","notices":[${items}]}`,
  );
}

/** @returns the note, or undefined when the payload is not from Perdure */
export function decodeNotices(payload: string): NoticesNote | undefined {
  const note = parse(payload) as { from?: unknown; notices?: unknown } | undefined;
  if (typeof note?.from !== 'string' || !Array.isArray(note.notices)) return undefined;
  return { from: note.from, notices: note.notices.filter(isNotice) };
}

function isNotice(value: unknown): value is WorkerNotice {
  if (typeof value !== 'object' || value === null) return false;
  const { namespace, workerId, kind, runId, leaseToken } = value as Record<string, unknown>;
  if (typeof namespace !== 'string' || typeof workerId !== 'string') return false;
  if (kind === 'drain') return true;
  return (
    (LEASE_NOTICES as readonly unknown[]).includes(kind) && typeof runId === 'string' && typeof leaseToken === 'number'
  );
}

/** @returns as many payloads as the size limit requires */
export function encodeEnded(note: EndedNote): string[] {
  return inChunks(
    note.runIds.map((runId) => `"${runId}"`),
    (items) => `{"from":"${note.from}","runs":[${items}]}`,
  );
}

/** @returns the note, or undefined when the payload is not from Perdure */
export function decodeEnded(payload: string): EndedNote | undefined {
  const note = parse(payload) as { from?: unknown; runs?: unknown } | undefined;
  if (typeof note?.from !== 'string' || !Array.isArray(note.runs)) return undefined;
  return { from: note.from, runIds: note.runs.filter((runId: unknown) => typeof runId === 'string') };
}

/** @returns as many payloads as the size limit requires */
export function encodeAnswered(note: AnsweredNote): string[] {
  return inChunks(
    note.updates.map(({ runId, requestId }) => JSON.stringify([runId, requestId])),
    (items) => `{"from":"${note.from}","updates":[${items}]}`,
  );
}

/** @returns the note, or undefined when the payload is not from Perdure */
export function decodeAnswered(payload: string): AnsweredNote | undefined {
  const note = parse(payload) as { from?: unknown; updates?: unknown } | undefined;
  if (typeof note?.from !== 'string' || !Array.isArray(note.updates)) return undefined;
  const updates = note.updates.flatMap((update: unknown) =>
    Array.isArray(update) && typeof update[0] === 'string' && typeof update[1] === 'string'
      ? [{ runId: update[0], requestId: update[1] }]
      : [],
  );
  return { from: note.from, updates };
}

export function encodeTimers(note: TimersNote): string {
  return JSON.stringify(note);
}

/** @returns the note, or undefined when the payload is not from Perdure */
export function decodeTimers(payload: string): TimersNote | undefined {
  const note = parse(payload) as { wakeInMs?: unknown; expiryInMs?: unknown } | undefined;
  if (note === undefined) return undefined;
  const ms = (value: unknown) => (typeof value === 'number' && Number.isFinite(value) ? value : null);
  return { wakeInMs: ms(note.wakeInMs), expiryInMs: ms(note.expiryInMs) };
}

function parse(payload: string): object | undefined {
  try {
    const value: unknown = JSON.parse(payload);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function inChunks(items: readonly string[], wrap: (items: string) => string): string[] {
  const payloads: string[] = [];
  let chunk: string[] = [];
  let bytes = 100;
  for (const item of items) {
    const size = Buffer.byteLength(item) + 1;
    if (chunk.length > 0 && bytes + size > MAX_PAYLOAD_BYTES) {
      payloads.push(wrap(chunk.join(',')));
      chunk = [];
      bytes = 100;
    }
    chunk.push(item);
    bytes += size;
  }
  if (chunk.length > 0) payloads.push(wrap(chunk.join(',')));
  return payloads;
}
