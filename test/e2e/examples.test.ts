import { it } from 'vitest';
import { startProcess } from '../support/processes.js';

// Each has processes and a PostgreSQL of its own, and waits for leases to expire.
it.concurrent('order fulfilment: the worker is killed midway, the card is charged once', async ({ expect }) => {
  const demo = startProcess('examples/order-fulfilment/dist/demo.js', []);
  expect([await demo.ended(), demo.output()]).toEqual([0, expect.stringContaining('charged once')]);
  expect(demo.output()).toContain('WorkerLostError');
}, 120_000);

it.concurrent('flight import: equals the direct computation after random kills', async ({ expect }) => {
  const demo = startProcess('examples/flight-import/dist/demo.js', ['4']);
  expect([await demo.ended(), demo.output()]).toEqual([0, expect.stringContaining('equal the direct computation')]);
  expect(demo.output()).toContain('4 kills');
}, 180_000);

it.concurrent('shopping cart: every update is carried out once, although its worker is killed', async ({ expect }) => {
  const demo = startProcess('examples/shopping-cart/dist/demo.js', []);
  expect([await demo.ended(), demo.output()]).toEqual([0, expect.stringContaining('Each update was carried out once')]);
  expect(demo.output()).toContain("Update 'add item' was refused: There is no 'sofa'.");
}, 120_000);

it.concurrent('airport distances: child runs on another task queue find what the direct computation finds', async ({
  expect,
}) => {
  const demo = startProcess('examples/airport-distances/dist/demo.js', []);
  expect([await demo.ended(), demo.output()]).toEqual([0, expect.stringContaining('equal the direct computation')]);
}, 120_000);

it.concurrent('approval: decided by webhook, after a reminder and an escalation, or not at all', async ({ expect }) => {
  const demo = startProcess('examples/approval/dist/demo.js', []);
  expect([await demo.ended(), demo.output()]).toEqual([0, expect.stringContaining('one has expired')]);
  expect(demo.output()).toContain('new chairs: paid, approved by director');
}, 120_000);

it.concurrent('trip saga: what was booked is cancelled, and what could not be is said', async ({ expect }) => {
  const demo = startProcess('examples/trip-saga/dist/demo.js', []);
  expect([await demo.ended(), demo.output()]).toEqual([0, expect.stringContaining('each once')]);
  const trips = demo.output().split('\n\n').slice(-6);
  expect(trips[0]).toContain('have a good trip; booked: flight, hotel, car');
  expect(trips[1]).toContain('compensation: COMPLETE; still booked: nothing');
  expect(trips[2]).toContain('compensation: COMPLETE; still booked: nothing');
  expect(trips[3]).toContain("not compensated: 'compensate:hotel' (the hotel desk does not answer)");
  expect(trips[3]).toContain('compensation: PARTIAL; still booked: hotel');
  expect(trips[4]).toContain('compensation: COMPLETE; still booked: nothing');
}, 120_000);

it.concurrent('support agent: another worker continues, and no decision that is recorded is asked of the model again', async ({
  expect,
}) => {
  const demo = startProcess('examples/support-agent/dist/demo.js', []);
  expect([await demo.ended(), demo.output()]).toEqual([0, expect.stringContaining('asked 5 times for 4 decisions')]);
  expect(demo.output()).toContain('Agent: Order 17 is refunded.');
  expect(demo.output()).toContain('Nobody is there now');
}, 120_000);

it.concurrent('subscription: three years of months, each a run of its own, charged once each', async ({ expect }) => {
  const demo = startProcess('examples/subscription/dist/demo.js', []);
  expect([await demo.ended(), demo.output()]).toEqual([0, expect.stringContaining('36 months, 36 runs, 36 charges')]);
  expect(demo.output()).toContain('Ada has left after 36 months: moving away');
}, 120_000);

it.concurrent('polling: an API that is overloaded, down and silent, and no page read again that was reported', async ({
  expect,
}) => {
  const demo = startProcess('examples/polling/dist/demo.js', []);
  expect([await demo.ended(), demo.output()]).toEqual([
    0,
    expect.stringContaining('After 3 hours 5 pages are added up: right.'),
  ]);
  expect(demo.output()).toContain('Page 1 was read 1 time, page 3 2 times, page 4 2 times.');
}, 120_000);
