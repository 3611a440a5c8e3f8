import { devalueCodec, PayloadTooLargeError, TerminalError } from '@perdure/worker-sdk';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { errorOf, failureOf } from '../../packages/worker-sdk/dist/errors/failure.js';
import { SeededRandom } from '../../packages/worker-sdk/dist/execution/context/random.js';
import { DeliveryQueue } from '../../packages/worker-sdk/dist/execution/order/delivery-queue.js';
import { SlotLedger } from '../../packages/worker-sdk/dist/worker/slot-ledger.js';
import { ManualClock } from '../support/manual-clock.js';

const turns = async (n = 20) => {
  for (let i = 0; i < n; i++) await new Promise((resolve) => setImmediate(resolve));
};

describe('delivery queue', () => {
  it('recorded results are delivered in recorded order, for any order of requests', async () => {
    const delivered: string[] = [];
    const queue = new DeliveryQueue(['a', 'b', 'c'], () => undefined);
    for (const id of ['c', 'a', 'b']) queue.request(id, () => delivered.push(id));
    await turns();
    expect(delivered).toEqual(['a', 'b', 'c']);
    expect(queue.replaying).toBe(false);
  });

  it('live results are delivered in the order in which they were sent, not acknowledged', async () => {
    const delivered: number[] = [];
    const queue = new DeliveryQueue([], () => undefined);
    const slots = [queue.reserve(), queue.reserve(), queue.reserve(), queue.reserve()];
    // 1 is the place of what a claim has taken.
    expect(slots.map(({ eventSeq }) => eventSeq)).toEqual([2, 3, 4, 5]);
    slots[2]?.ready(() => delivered.push(3));
    slots[1]?.ready(() => delivered.push(2));
    await turns();
    expect(delivered).toEqual([]);
    slots[0]?.release();
    slots[3]?.ready(() => delivered.push(4));
    await turns();
    expect(delivered).toEqual([2, 3, 4]);
  });

  it('the code reacts to one result before the next is delivered', async () => {
    const order: string[] = [];
    const queue = new DeliveryQueue(['a', 'b'], () => undefined);
    const react = async (id: string) => {
      for (let n = 0; n < 5; n++) await Promise.resolve();
      order.push(`reacted to ${id}`);
    };
    for (const id of ['a', 'b']) {
      queue.request(id, () => {
        order.push(`delivered ${id}`);
        void react(id);
      });
    }
    await turns();
    expect(order).toEqual(['delivered a', 'reacted to a', 'delivered b', 'reacted to b']);
  });

  it('the delivery queue skips results that the code does not request, reports them, and delivers them when requested later', async () => {
    let quiet = 0;
    const delivered: string[] = [];
    const clock = new ManualClock();
    const onIdle = () => quiet++;
    const queue = new DeliveryQueue(['gone', 'kept'], onIdle, () => true, clock);
    queue.request('kept', () => delivered.push('kept'));
    await turns();
    expect([delivered, quiet]).toEqual([[], 0]);
    await clock.advance(clock.nextInMs ?? 0);
    await turns();
    expect(delivered).toEqual(['kept']);
    expect(quiet).toBeGreaterThan(0);
    expect(queue.unrequested).toEqual(['gone']);
    queue.request('gone', () => delivered.push('gone'));
    await turns();
    expect(delivered).toEqual(['kept', 'gone']);
    expect(queue.unrequested).toEqual([]);
  });

  it('gives the code its whole grace again whenever something happens', async () => {
    const clock = new ManualClock();
    const queue = new DeliveryQueue(
      ['gone'],
      () => undefined,
      () => true,
      clock,
    );
    queue.recheck();
    await clock.advance(49);
    queue.recheck();
    await clock.advance(49);
    await turns();
    expect(queue.replaying).toBe(true);
    await clock.advance(1);
    await turns();
    expect([queue.replaying, queue.unrequested]).toEqual([false, ['gone']]);
  });

  it('passes nothing over, and wakes nobody, once it is stopped', async () => {
    const clock = new ManualClock();
    let quiet = 0;
    const onIdle = () => quiet++;
    const queue = new DeliveryQueue(['gone'], onIdle, () => true, clock);
    queue.recheck();
    await turns();
    queue.stop();
    await clock.advance(1_000);
    await turns();
    expect([quiet, clock.nextInMs, queue.replaying]).toEqual([0, undefined, true]);
  });

  it('a stopped delivery queue delivers nothing', async () => {
    const delivered: string[] = [];
    const queue = new DeliveryQueue(['a'], () => delivered.push('quiet'));
    queue.request('a', () => delivered.push('a'));
    queue.stop();
    await turns();
    expect(delivered).toEqual([]);
  });
});

describe('slot ledger', () => {
  it('polls never bring more runs than the limits allow, and never starve a type with free slots', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.dictionary(fc.constantFrom('a', 'b', 'c'), fc.integer({ min: 1, max: 4 })),
        fc.array(fc.record({ action: fc.constantFrom('open', 'claim', 'empty', 'end'), pick: fc.nat(100) }), {
          maxLength: 200,
        }),
        (concurrency, limits, actions) => {
          const types = ['a', 'b', 'c'];
          const ledger = new SlotLedger(concurrency, types, limits);
          const polls: { types: readonly string[]; slots: number }[] = [];
          const running: string[] = [];
          for (const { action, pick } of actions) {
            if (action === 'open') {
              const ticket = ledger.openPoll();
              if (ticket !== undefined) polls.push(ticket);
            } else if (action === 'end') {
              const [type] = running.splice(pick % Math.max(1, running.length), 1);
              if (type !== undefined) ledger.end(type);
            } else {
              const [ticket] = polls.splice(pick % Math.max(1, polls.length), 1);
              if (ticket === undefined) continue;
              ledger.closePoll(ticket);
              if (action === 'claim') {
                // As many as it may bring, of types as they come.
                for (let n = 0; n < Math.min(ticket.slots, 1 + (pick % 5)); n++) {
                  const type = ticket.types[(pick + n) % ticket.types.length] as string;
                  ledger.begin(type);
                  running.push(type);
                }
              }
            }
            expect(running.length + polls.reduce((sum, { slots }) => sum + slots, 0)).toBeLessThanOrEqual(concurrency);
            for (const type of types) {
              const most =
                running.filter((candidate) => candidate === type).length +
                polls.reduce((sum, poll) => sum + (poll.types.includes(type) ? poll.slots : 0), 0);
              if (limits[type] !== undefined) expect(most).toBeLessThanOrEqual(limits[type]);
            }
          }
          while (ledger.openPoll() !== undefined) expect(ledger.polls).toBeLessThanOrEqual(concurrency);
        },
      ),
    );
  });
});

describe('seeded random', () => {
  it('seeded random values are the same for one run and different for another', () => {
    const draw = (runId: string) => {
      const random = new SeededRandom(runId);
      return [random.next(), random.uuid(), random.next()];
    };
    const id = '01a1fcda-d331-7377-8b61-29bbd3c66342';
    expect(draw(id)).toEqual(draw(id));
    expect(draw(id)).not.toEqual(draw('01a1fcda-d331-7377-8b61-29bbd3c66343'));
    const random = new SeededRandom(id);
    const values = Array.from({ length: 2_000 }, () => random.next());
    expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
    expect(values.reduce((sum, value) => sum + value, 0) / values.length).toBeCloseTo(0.5, 1);
    expect(random.uuid()).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});

describe('failures', () => {
  it('errors keep name, message, stack, code, details and causes through the wire', () => {
    const error = Object.assign(new RangeError('out', { cause: new TerminalError('inner', { code: 'C' }) }), {
      code: 42,
      details: { when: new Date(0) },
    });
    const back = errorOf(devalueCodec, failureOf(devalueCodec, error));
    expect(back).toBeInstanceOf(RangeError);
    expect(back).toMatchObject({ message: 'out', code: '42', details: { when: new Date(0) }, stack: error.stack });
    expect(back.cause).toBeInstanceOf(TerminalError);
    expect(back.cause).toMatchObject({ code: 'C' });
    class Custom extends Error {
      override readonly name = 'Custom';
    }
    expect(errorOf(devalueCodec, failureOf(devalueCodec, new Custom('c'))).name).toBe('Custom');
    expect(errorOf(devalueCodec, failureOf(devalueCodec, new PayloadTooLargeError('p')))).toBeInstanceOf(
      PayloadTooLargeError,
    );
  });

  it('recording an error never fails, for any thrown value', () => {
    fc.assert(
      fc.property(fc.anything(), (thrown) => {
        const failure = failureOf(devalueCodec, thrown);
        expect(errorOf(devalueCodec, failure)).toBeInstanceOf(Error);
        expect(Buffer.byteLength(failure.message)).toBeLessThanOrEqual(65_536);
      }),
    );
    let deep = new Error('root');
    for (let n = 0; n < 50; n++) deep = new Error(`n${n}`, { cause: deep });
    let depth = 0;
    for (let cause = failureOf(devalueCodec, deep).cause; cause !== undefined; cause = cause.cause) depth++;
    expect(depth).toBe(16);
    const odd = Object.assign(new Error('odd'), { details: () => 1 });
    expect(failureOf(devalueCodec, odd).details).toBeUndefined();
  });
});
