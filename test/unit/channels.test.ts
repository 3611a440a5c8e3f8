import {
  decodeAnswered,
  decodeEnded,
  decodeNotices,
  decodeTimers,
  decodeWakeup,
  encodeAnswered,
  encodeEnded,
  encodeNotices,
  encodeTimers,
  encodeWakeup,
  newSenderId,
  type WorkerNotice,
} from '@perdure/store';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

/** PostgreSQL's own limit for the payload of a NOTIFY, in bytes. */
const LIMIT_BYTES = 7_999;

const name = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 85 })
  .filter((text) => Buffer.byteLength(text) <= 255);
const from = newSenderId();

describe('notifications between servers', () => {
  const sized = (payloads: readonly string[]) => {
    for (const payload of payloads) expect(Buffer.byteLength(payload)).toBeLessThanOrEqual(LIMIT_BYTES);
    return payloads;
  };

  it('notifications name every queue once, in as many payloads as the limit requires', () =>
    fc.assert(
      fc.property(fc.array(fc.record({ namespace: name, taskQueue: name }), { maxLength: 300 }), (queues) => {
        const read = sized(encodeWakeup({ from, queues })).flatMap((payload) => {
          const note = decodeWakeup(payload);
          expect(note?.from).toBe(from);
          return note?.queues ?? [];
        });
        const keys = (list: readonly { readonly namespace: string; readonly taskQueue: string }[]) =>
          list.map((queue) => JSON.stringify([queue.namespace, queue.taskQueue])).sort();
        expect(keys(read)).toEqual([...new Set(keys(queues))]);
      }),
    ));

  it('notifications carry every notice, in order', () =>
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.record({ namespace: name, workerId: fc.uuid(), kind: fc.constant('drain' as const) }),
            fc.record({
              namespace: name,
              workerId: fc.uuid(),
              kind: fc.constantFrom('cancel_requested' as const, 'lease_lost' as const),
              runId: fc.uuid(),
              leaseToken: fc.nat(),
            }),
          ),
          { maxLength: 300 },
        ),
        (notices) => {
          const read: WorkerNotice[] = [];
          for (const payload of sized(encodeNotices({ from, notices }))) {
            read.push(...(decodeNotices(payload)?.notices ?? []));
          }
          expect(read).toEqual(notices);
        },
      ),
    ));

  it('notifications carry the id of every run that has ended, in order', () =>
    fc.assert(
      fc.property(fc.array(fc.uuid(), { maxLength: 1_000 }), (runIds) => {
        const payloads = sized(encodeEnded({ from, runIds }));
        expect(payloads.flatMap((payload) => decodeEnded(payload)?.runIds ?? [])).toEqual(runIds);
        // Full, but for the last one.
        expect(payloads.length).toBeLessThanOrEqual(Math.ceil(runIds.length / 190));
      }),
    ));

  it('notifications carry the run and request id of every update that is answered, in order', () =>
    fc.assert(
      fc.property(fc.array(fc.record({ runId: fc.uuid(), requestId: name }), { maxLength: 300 }), (updates) => {
        const read = sized(encodeAnswered({ from, updates })).flatMap(
          (payload) => decodeAnswered(payload)?.updates ?? [],
        );
        expect(read).toEqual(updates);
      }),
    ));

  it('notifications carry times, and refuse every other value', () => {
    for (const note of [
      { wakeInMs: 5, expiryInMs: null },
      { wakeInMs: null, expiryInMs: 0.5 },
    ]) {
      expect(decodeTimers(encodeTimers(note))).toEqual(note);
    }
    expect(decodeTimers('{"wakeInMs":"soon","expiryInMs":true}')).toEqual({ wakeInMs: null, expiryInMs: null });
  });

  it('notifications that other programs send on the channels of Perdure are ignored', () =>
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (payload) => {
        for (const decode of [decodeWakeup, decodeNotices, decodeEnded]) {
          const note = decode(payload);
          if (note !== undefined) expect(typeof note.from).toBe('string');
        }
        decodeTimers(payload);
      }),
    ));
});
