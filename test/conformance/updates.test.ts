import { WorkerService } from '@perdure/proto';
import {
  CancelledError,
  Client,
  Connection,
  InvalidInputError,
  RpcError,
  TerminalError,
  UpdateRefusedError,
  UpdateTimeoutError,
  update,
  workflow,
} from '@perdure/worker-sdk';
import { withService } from '@perdure/worker-sdk/testing';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { interrupting } from '../property/interruptions.js';
import { gate } from '../support/held-answers.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { Seeded } from '../support/seeded.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

const add = update<string, string[]>('add');
const remove = update<string, string[]>('remove');
const close = update<undefined, number>('close');

/** A cart that lives until it is closed; each change is a step and sets the state. */
const cart = workflow('cart', async (ctx) => {
  const items: string[] = [];
  let isClosed: () => void = () => undefined;
  const closed = new Promise<void>((resolve) => {
    isClosed = resolve;
  });
  ctx.handle(add, async (item) => {
    items.push(await ctx.step('price', () => item.toUpperCase()));
    ctx.setState(items);
    return [...items];
  });
  ctx.handle(remove, (item) => {
    items.splice(items.indexOf(item), 1);
    ctx.setState(items);
    return [...items];
  });
  ctx.handle(close, () => {
    isClosed();
    return items.length;
  });
  await closed;
  return items;
});

describe('updates', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { ...CLOCK_MOVING_REAPER, reclaimBackoffMs: 10 } });
  });
  afterAll(() => perdure.stop());
  const newQueue = () => `q-${uuid()}`;
  const isWaiting = (runId: string) =>
    until('the run to wait', async () => (await perdure.client.handle(runId).get()).status === 'WAITING');

  it.each([
    ['warm', 100],
    ['cold', 0],
  ])('are answered with what the handler returns, and the state shows it at once (%s)', async (_, warmRuns) => {
    const taskQueue = newQueue();
    await perdure.startWorker({ taskQueue, workflows: [cart], warmRuns });
    const handle = await perdure.client.start(cart, { taskQueue });
    expect(await handle.state()).toBeUndefined();
    expect(await handle.update(add, 'a')).toEqual(['A']);
    expect(await handle.state()).toEqual(['A']);
    await isWaiting(handle.runId);
    expect(await perdure.client.update({ workflowId: handle.workflowId }, add, 'b')).toEqual(['A', 'B']);
    expect(await handle.update(remove, 'A')).toEqual(['B']);
    expect(await handle.update(close)).toBe(1);
    expect(await handle.result({ timeout: '20s' })).toEqual(['B']);
    expect(await perdure.client.state({ runId: handle.runId })).toEqual(['B']);
  });

  it('are kept from the start, and carried out in the order of sending, whatever their names', async () => {
    const taskQueue = newQueue();
    const handle = await perdure.client.start(cart, { taskQueue });
    const order: Promise<unknown>[] = [];
    for (const [definition, item, requestId] of [
      [add, 'a', 'r1'],
      [remove, 'A', 'r2'],
      [add, 'b', 'r3'],
      [add, 'c', 'r4'],
      [remove, 'B', 'r5'],
    ] as const) {
      order.push(handle.update(definition, item, { requestId }));
      await until('the update to be sent', async () => {
        const [row] = await perdure.database
          .sql`select 1 from perdure.run_updates where run_id = ${handle.runId} and request_id = ${requestId}`;
        return row !== undefined;
      });
    }
    await perdure.startWorker({ taskQueue, workflows: [cart] });
    await Promise.all(order);
    const { steps } = await perdure.workflows.getHistory({ runId: handle.runId });
    const received = steps.filter(({ stepId, awaits }) => stepId.startsWith('update') && awaits !== '');
    expect(received.map(({ awaits }) => awaits)).toEqual(['add', 'remove', 'add', 'add', 'remove']);
    // A repeat gets the same answer and carries out nothing.
    const first = await handle.update(add, 'a', { requestId: 'r1' });
    expect(first).toEqual(await order[0]);
    await handle.update(close);
    await handle.result({ timeout: '20s' });
    expect(await handle.update(add, 'a', { requestId: 'r1' })).toEqual(first);
  });

  it('are refused by schema and validators before anything is carried out', async () => {
    const taskQueue = newQueue();
    const order = update('order', {
      input: z.object({ quantity: z.coerce.number() }),
      validate: ({ quantity }) => {
        if (quantity > 10) throw new RangeError('At most 10 at a time.');
      },
    });
    const bodies: number[] = [];
    const definition = workflow('orders', async (ctx) => {
      let total = 0;
      await new Promise<void>((resolve) => {
        ctx.handle(
          order,
          async ({ quantity }) => {
            await ctx.step('book', () => void bodies.push(quantity));
            total += quantity;
            if (total === 15) resolve();
            return total;
          },
          {
            validate: ({ quantity }) => {
              if (total + quantity > 15) throw new Error(`Only ${15 - total} left.`);
            },
          },
        );
      });
      return total;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await expect(handle.update(order, {} as never)).rejects.toBeInstanceOf(InvalidInputError);
    await expect(handle.update('order', { quantity: 'x' })).rejects.toThrow(/was refused: .*quantity/);
    const refused = handle.update(order, { quantity: 11 });
    await expect(refused).rejects.toThrow("Update 'order' was refused: At most 10 at a time.");
    await expect(refused).rejects.toMatchObject({ code: 'UPDATE_REFUSED', cause: { name: 'RangeError' } });
    expect(await handle.update(order, { quantity: '10' as never })).toBe(10);
    await expect(handle.update(order, { quantity: 6 })).rejects.toBeInstanceOf(UpdateRefusedError);
    expect(await handle.update(order, { quantity: 5 })).toBe(15);
    expect(await handle.result({ timeout: '20s' })).toBe(15);
    expect(bodies).toEqual([10, 5]);
  });

  it("fail with the handler's error, and the run continues", async () => {
    const taskQueue = newQueue();
    const definition = workflow('fails', async (ctx) => {
      ctx.handle('explode', async () => {
        await ctx.step('body', () => {
          throw new TerminalError('no', { code: 'E_NO', details: { why: 1 } });
        });
      });
      ctx.handle('strange', () => (() => undefined) as never);
      await ctx.waitForSignal('end');
      return 'fine';
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    const error = handle.update<undefined, never>('explode');
    await expect(error).rejects.toBeInstanceOf(TerminalError);
    await expect(error).rejects.toMatchObject({ message: 'no', code: 'E_NO', details: { why: 1 } });
    await expect(handle.update('strange', undefined)).rejects.toThrow(
      /The result of update 'strange' cannot be recorded/,
    );
    await handle.signal('end');
    expect(await handle.result({ timeout: '20s' })).toBe('fine');
  });

  it('may be at work several at once, sleep, and hold the end of the run until they are answered', async () => {
    const taskQueue = newQueue();
    const definition = workflow('lingers', async (ctx) => {
      ctx.handle('long', async (n: number) => {
        await ctx.sleep('nap', '1 hour');
        return await ctx.step('after', () => n * 2);
      });
      await ctx.waitForSignal('end');
      return 'ended';
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
    const handle = await perdure.client.start(definition, { taskQueue });
    const answers = [1, 2, 3].map((n) => handle.update('long', n));
    const sleeping = async () =>
      (await perdure.workflows.getHistory({ runId: handle.runId })).steps.filter(({ stepId }) =>
        stepId.startsWith('nap'),
      ).length;
    await until('the handlers to sleep', async () => (await sleeping()) === 3);
    await handle.signal('end');
    await until('the code to end', async () => {
      const { steps } = await perdure.workflows.getHistory({ runId: handle.runId });
      return steps.some(({ stepId, eventSeq }) => stepId === 'end' && eventSeq > 0);
    });
    // The code has ended: further updates are not received any more.
    const late = handle.update('long', 4).catch((error: unknown) => error);
    await endSleep(perdure, handle.runId);
    expect(await Promise.all(answers)).toEqual([2, 4, 6]);
    expect(await handle.result({ timeout: '20s' })).toBe('ended');
    expect(await late).toMatchObject({ reason: 'RUN_CLOSED' });
    await expect(handle.update('long', 5)).rejects.toMatchObject({ reason: 'RUN_CLOSED' });
  });

  it('wait for a handler of their name, or for the end of the run', async () => {
    const taskQueue = newQueue();
    const definition = workflow('late handlers', async (ctx) => {
      ctx.handle('early', () => 'early');
      await ctx.waitForSignal('go');
      ctx.handle('late', () => 'late');
      await ctx.waitForSignal('end');
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    const late = handle.update('late', undefined);
    const unknown = handle.update('unknown', undefined).catch((error: unknown) => error);
    expect(await handle.update('early', undefined)).toBe('early');
    const timeout = handle.update('late', undefined, { timeout: 50, requestId: 'later' });
    await expect(timeout).rejects.toBeInstanceOf(UpdateTimeoutError);
    await handle.signal('go');
    expect(await late).toBe('late');
    expect(await handle.update('late', undefined, { requestId: 'later' })).toBe('late');
    await handle.signal('end');
    await handle.result({ timeout: '20s' });
    expect(await unknown).toMatchObject({ name: 'RpcError', reason: 'RUN_CLOSED' });
  });

  it('a cancelled run answers what it is working on, and takes nothing more', async () => {
    const taskQueue = newQueue();
    const definition = workflow('cancelled', async (ctx) => {
      ctx.handle('long', () => ctx.sleep('nap', '1 hour'));
      await ctx.sleep('main', '1 hour');
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    const answer = handle.update('long', undefined).catch((error: unknown) => error);
    await until('the handler to sleep', async () =>
      (await perdure.workflows.getHistory({ runId: handle.runId })).steps.some(({ stepId }) => stepId === 'nap'),
    );
    await handle.cancel();
    expect(await answer).toBeInstanceOf(CancelledError);
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow(/was cancelled/);
  });

  it('are handled again by the next attempt of a run that fails after it has answered them', async () => {
    const taskQueue = newQueue();
    let attempts = 0;
    const bodies: string[] = [];
    const definition = workflow('retried', { retry: { maxAttempts: 2, initial: 1 } }, async (ctx) => {
      const items: string[] = [];
      ctx.handle(add, async (item) => {
        const price = () => {
          bodies.push(item);
          return item.toUpperCase();
        };
        items.push(await ctx.step('price', price));
        return items;
      });
      try {
        await ctx.step(
          'flaky',
          () => {
            if (++attempts === 1) throw new Error('outage');
          },
          { retry: { maxAttempts: 1 } },
        );
      } catch (error) {
        await ctx.waitForSignal('fail');
        throw error;
      }
      await ctx.waitForSignal('end');
      return items;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isWaiting(handle.runId);
    expect(await handle.update(add, 'a', { requestId: 'r' })).toEqual(['A']);
    await handle.signal('fail');
    await until('the second attempt', async () => attempts === 2);
    expect(await handle.update(add, 'b')).toEqual(['A', 'B']);
    expect(await handle.update(add, 'a', { requestId: 'r' })).toEqual(['A']);
    await handle.signal('end');
    expect(await handle.result({ timeout: '20s' })).toEqual(['A', 'B']);
    expect(bodies).toEqual(['a', 'a', 'b']);
  });

  it('misuse is refused where it happens', async () => {
    const taskQueue = newQueue();
    const definition = workflow('misuse', async (ctx) => {
      ctx.handle('twice', () => 1);
      const messages: string[] = [];
      const attempt = async (work: () => unknown) => {
        try {
          await work();
        } catch (error) {
          messages.push((error as Error).message);
        }
      };
      await attempt(() => ctx.handle('twice', () => 2));
      await attempt(() => ctx.handle('other', () => 2, { validat: 1 } as never));
      await attempt(() => ctx.step('a', () => ctx.handle('inside', () => 3), { retry: { maxAttempts: 1 } }));
      await attempt(() => ctx.step('b', () => ctx.setState(1), { retry: { maxAttempts: 1 } }));
      await attempt(() => ctx.setState(() => undefined));
      await attempt(() => ctx.setState('x'.repeat(3 * 1024 * 1024)));
      return messages;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    expect(await perdure.client.execute(definition, { taskQueue, timeout: '20s' })).toEqual([
      "Update 'twice' has a handler already.",
      expect.stringContaining("has no option 'validat'; did you mean 'validate'?"),
      expect.stringContaining("ctx.handle('inside') was called inside the body of step 'a'"),
      expect.stringContaining("ctx.setState was called inside the body of step 'b'"),
      expect.stringContaining('The state of the run cannot be recorded'),
      expect.stringContaining('The state of the run has'),
    ]);
  });

  it('a caller at another server gets the answer and the end of the run, also when no server tells it', async () => {
    const taskQueue = newQueue();
    await perdure.startWorker({ taskQueue, workflows: [cart] });
    const handle = await perdure.client.start(cart, { taskQueue });
    for (const config of [{}, { wakeup: 'poll' as const }]) {
      const other = await perdure.startServer(config);
      const connection = new Connection({ address: other.grpcAddress });
      const client = new Client({ connection });
      expect(await client.update({ runId: handle.runId }, add, 'a')).toContain('A');
      connection.close();
    }
    const silent = await perdure.startServer({ wakeup: 'poll' });
    const connection = new Connection({ address: silent.grpcAddress });
    const unknown = new Client({ connection })
      .update({ runId: handle.runId }, 'unknown')
      .catch((error: unknown) => error);
    await until('the update', async () => {
      const rows = await perdure.database
        .sql`select 1 from perdure.run_updates where run_id = ${handle.runId} and name = 'unknown'`;
      return rows.length === 1;
    });
    await handle.update(close);
    expect(await unknown).toMatchObject({ reason: 'RUN_CLOSED' });
    connection.close();
  });

  it('an update that races the end of its run is answered or RUN_CLOSED', async () => {
    const taskQueue = newQueue();
    const definition = workflow('short', async (ctx, n: number) => {
      ctx.handle('poke', async () => {
        if (n % 2 === 0) await ctx.step('poked', () => n);
        return n;
      });
      await ctx.step('work', () => n);
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], concurrency: 20 });
    const outcomes = await Promise.all(
      Array.from({ length: 120 }, async (_, n) => {
        const handle = await perdure.client.start(definition, n, { taskQueue });
        const [answer] = await Promise.all([
          handle.update('poke', undefined, { timeout: '60s' }).catch((error: RpcError) => error.reason),
          handle.result({ timeout: '60s' }),
        ]);
        return answer === n ? 'answered' : answer;
      }),
    );
    expect(new Set([...outcomes, 'answered', 'RUN_CLOSED'])).toEqual(new Set(['answered', 'RUN_CLOSED']));
  });

  const isWrite = (method: string) =>
    ![
      'pollActivity',
      'recordHeartbeat',
      'awaitNotices',
      'registerWorker',
      'deregisterWorker',
      'getMemo',
      'releaseRun',
    ].includes(method);

  /** The connection of workers that are lost after the nth write about a run; the answer never arrives. */
  const dyingAfter = (nth: (runId: string) => number, onReached: (runId: string) => void) => {
    const writes = new Map<string, number>();
    const dead = new Set<string>();
    const real = perdure.connection.service(WorkerService) as unknown as Record<
      string,
      (request: never, options?: object) => Promise<unknown>
    >;
    const calls = Object.fromEntries(
      Object.entries(real).map(([method, call]) => [
        method,
        async (request: { readonly runId: string; readonly leaseToken: number }, options?: object) => {
          if (!isWrite(method)) return call(request as never, options);
          const key = `${request.runId}/${request.leaseToken}`;
          const lost = () => new RpcError('FAILED_PRECONDITION', 'The worker is dead.', { reason: 'LEASE_LOST' });
          if (dead.has(key)) throw lost();
          const count = (writes.get(request.runId) ?? 0) + 1;
          writes.set(request.runId, count);
          const isLast = count === nth(request.runId);
          if (isLast) dead.add(key);
          const answer = await call(request as never, options);
          if (!isLast) return answer;
          onReached(request.runId);
          await perdure.database
            .sql`update perdure.workflow_runs set lease_expires_at = perdure.clock() - interval '1 s'
            where run_id = ${request.runId} and lease_token = ${request.leaseToken} and status = 'RUNNING'`;
          throw lost();
        },
      ]),
    );
    return withService(perdure.connection, (service) =>
      service === (WorkerService as never) ? calls : perdure.connection.service(service),
    );
  };

  it('are answered once although the worker is lost after any of its writes', async () => {
    const taskQueue = newQueue();
    const dieAt = new Map<string, number>();
    const reached = new Set<number>();
    const connection = dyingAfter(
      (runId) => dieAt.get(runId) ?? 0,
      (runId) => reached.add(dieAt.get(runId) ?? 0),
    );
    await perdure.startWorker({ taskQueue, workflows: [cart], connection, concurrency: 50 });
    const started = gate();
    const cases = Array.from({ length: 24 }, (_, index) => index + 1);
    await Promise.all(
      cases.map(async (n) => {
        const { runId } = await perdure.client.start(cart, { taskQueue, startDelay: '1 hour' });
        dieAt.set(runId, n);
        await perdure.workflows.getRun({ runId });
        await perdure.database.sql`update perdure.workflow_runs set wake_at = perdure.clock() where run_id = ${runId}`;
        started.open();
        const handle = perdure.client.handle(runId);
        const options = (requestId: string) => ({ requestId, timeout: '60s' as const });
        expect(await handle.update(add, 'a', options('1'))).toEqual(['A']);
        expect(await handle.update(add, 'b', options('2'))).toEqual(['A', 'B']);
        expect(await handle.update(remove, 'A', options('3'))).toEqual(['B']);
        expect(await handle.state()).toEqual(['B']);
        expect(await handle.update(close, undefined, options('4'))).toBe(1);
        expect(await handle.result({ timeout: '60s' })).toEqual(['B']);
        expect(await handle.update(add, 'a', options('1'))).toEqual(['A']);
        const answers = await perdure.database
          .sql`select count(*)::int as n from perdure.run_updates where run_id = ${runId} and answer = 'COMPLETED'`;
        expect(answers).toEqual([{ n: 4 }]);
      }),
    );
    expect(reached.size).toBeGreaterThan(12);
  });

  it('100 of them, with workers lost at random and every update sent twice, are answered once each', async () => {
    const taskQueue = newQueue();
    const counter = workflow('counter', async (ctx) => {
      let count = 0;
      await new Promise<void>((resolve) => {
        ctx.handle('increment', async (by: number) => {
          const checked = await ctx.step('check', () => by);
          count += checked;
          ctx.setState(count);
          return count;
        });
        ctx.handle('end', () => resolve());
      });
      return count;
    });
    const connection = interrupting({
      connection: perdure.connection,
      sql: perdure.database.sql,
      random: new Seeded(7),
      share: 0.5,
      onCommitted: () => undefined,
      onWrite: async () => undefined,
    });
    for (let n = 0; n < 2; n++) await perdure.startWorker({ taskQueue, workflows: [counter], connection });
    const handle = await perdure.client.start(counter, { taskQueue, maxLostLeases: 1_000 });
    const answers = await Promise.all(
      Array.from({ length: 100 }, async (_, n) => {
        const send = () => handle.update('increment', 1, { requestId: `r${n}`, timeout: '100s' });
        const [first, second] = await Promise.all([send(), send()]);
        expect(second).toBe(first);
        return first as number;
      }),
    );
    expect(answers.sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, n) => n + 1));
    expect(await handle.state()).toBe(100);
    await handle.update('end');
    expect(await handle.result({ timeout: '60s' })).toBe(100);
  }, 120_000);
});
