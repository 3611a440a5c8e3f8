import { StepStatus } from '@perdure/proto';
import {
  type StepContext,
  TerminalError,
  type WorkflowContext,
  WorkflowFailedError,
  workflow,
} from '@perdure/worker-sdk';
import { dropping, type Fate } from '@perdure/worker-sdk/testing';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { until } from '../support/until.js';

const soon = { maxAttempts: 3, initial: '1 ms' } as const;
/** More writes than any of these runs has. */
const MAX_WRITES = 60;

/** What happened, by the idempotency keys that the services outside were given. */
interface World {
  /** Keys without the run id, in the order of their first effects. */
  readonly effects: string[];
  code: number;
}

type Code = (ctx: WorkflowContext, act: (step: StepContext) => void) => Promise<unknown>;

/** PERDURE_CRASH_EVERY_POINT=1: every place; default: every second one, so that the suite keeps its time. */
const EVERY_POINT = process.env.PERDURE_CRASH_EVERY_POINT === '1';

/** Each is executed once for every place at which its worker can be lost. */
const CODES: Readonly<Record<string, Code>> = {
  async fails(ctx, act) {
    for (const name of ['flight', 'hotel', 'car']) {
      await ctx.step(name, act);
      ctx.onCompensate(
        name,
        (step) => {
          if (name === 'hotel' && step.countedAttempt === 1) throw new Error('busy');
          act(step);
        },
        { retry: soon },
      );
    }
    await ctx.step('pay', () => Promise.reject(new TerminalError('no money')));
  },
  async partial(ctx, act) {
    await ctx.step('flight', act);
    ctx.onCompensate('flight', act);
    await ctx.step('hotel', act);
    ctx.onCompensate('hotel', () => Promise.reject(new TerminalError('closed')));
    await ctx.step('car', act);
    ctx.onCompensate('car', act);
    throw new TerminalError('boom');
  },
  async parallel(ctx, act) {
    await Promise.all(
      ['a', 'b', 'c'].map(async (name) => {
        await ctx.step(name, act);
        ctx.onCompensate(name, async (step) => act(step), { parallel: true });
      }),
    );
    ctx.onCompensate('last', act);
    await ctx.sleep('5 ms');
    throw new TerminalError('boom');
  },
  async nested(ctx, act) {
    await ctx.step('outer', act);
    ctx.onCompensate('outer', act);
    await ctx
      .saga(async (trip) => {
        await trip.saga(async (stay) => {
          await ctx.step('hotel', act);
          stay.onCompensate('hotel', act);
        });
        const flight = async () => {
          await ctx.step('flight', async (step) => act(step));
          trip.onCompensate('flight', act);
        };
        await Promise.all([flight(), ctx.step('seat', () => Promise.reject(new TerminalError('full')))]);
      })
      .catch(() => undefined);
    await ctx.step('train', act);
    ctx.onCompensate('train', act);
    throw new TerminalError('boom');
  },
  async byHand(ctx, act) {
    await ctx.step('flight', act);
    ctx.onCompensate('flight', () => Promise.reject(new TerminalError('not now')));
    ctx.onCompensate('seat', act);
    await ctx.compensate().catch(() => undefined);
    await ctx.step('hotel', act);
    ctx.onCompensate('hotel', act);
    throw new TerminalError('boom');
  },
  async cancelled(ctx, act) {
    await ctx.step('flight', act);
    ctx.onCompensate('flight', act);
    await ctx.step('hotel', act);
    ctx.onCompensate('hotel', act);
    await ctx.waitForSignal('never');
  },
};

describe('sagas whose workers are lost', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 20, reclaimBackoffMs: 0, maxReclaimBackoffMs: 0 } });
  });
  afterAll(() => perdure.stop());

  const worlds = new Map<string, World>();
  const worldOf = (runId: string): World => {
    const world = worlds.get(runId) ?? { effects: [], code: 0 };
    worlds.set(runId, world);
    return world;
  };

  const definitions = Object.entries(CODES).map(([name, code]) =>
    workflow(name, async (ctx) => {
      const { runId } = ctx.run;
      worldOf(runId).code++;
      await code(ctx, ({ idempotencyKey }) => {
        const key = idempotencyKey.slice(runId.length + 1);
        const { effects } = worldOf(runId);
        if (!effects.includes(key)) effects.push(key);
      });
    }),
  );

  /** @returns what became of the run, as far as it must not depend on lost workers */
  const outcomeOf = async (name: string, runId: string) => {
    const handle = perdure.client.handle(runId);
    if (name === 'cancelled') {
      await until('it waits', async () => (await handle.get()).status === 'WAITING');
      await handle.cancel();
    }
    const error: unknown = await handle.result({ timeout: '60s' }).catch((thrown: unknown) => thrown);
    const { status, compensation } = await handle.get();
    const { steps } = await perdure.workflows.getHistory({ runId, pageSize: 1_000 });
    return {
      status,
      compensation,
      report: error instanceof WorkflowFailedError ? error.compensation : undefined,
      cause: error instanceof WorkflowFailedError ? error.cause.message : String((error as Error).name),
      // Parallel steps may end in any order.
      effects: name === 'parallel' ? [...worldOf(runId).effects].sort() : worldOf(runId).effects,
      steps: steps
        .filter(({ isLatest }) => isLatest)
        .map(({ stepId, seq, status: ended }) => `${name === 'parallel' ? '' : seq} ${stepId} ${StepStatus[ended]}`)
        .sort(),
    };
  };
  const sorted = (outcome: Awaited<ReturnType<typeof outcomeOf>>) => {
    const { report } = outcome;
    return report === undefined
      ? outcome
      : { ...outcome, report: { ...report, compensated: [...report.compensated].sort() } };
  };

  /** @param loss the write of the run, from 1, before or after which its worker is lost */
  const execute = async (name: string, loss?: { readonly place: number; readonly how: Fate }) => {
    const taskQueue = `q-${uuid()}`;
    let writes = 0;
    const connection = dropping({
      connection: perdure.connection,
      loses: 'lease',
      fateOf: async () => (++writes === loss?.place ? loss.how : 'lives'),
      async endLeases(leases) {
        for (const { runId, leaseToken } of leases) {
          await perdure.database
            .sql`update perdure.workflow_runs set lease_expires_at = perdure.clock() - interval '1 s'
            where run_id = ${runId} and lease_token = ${leaseToken} and status = 'RUNNING'`;
        }
      },
    });
    const worker = await perdure.startWorker({ taskQueue, workflows: definitions, connection });
    const { runId } = await perdure.client.start(name, undefined, { taskQueue });
    const outcome = sorted(await outcomeOf(name, runId));
    await worker.shutdown(0);
    return { outcome, writes };
  };

  let started = 0;
  for (const name of Object.keys(CODES)) {
    it(`${name}: every compensation has its effect once, wherever its worker is lost`, async () => {
      const { outcome: expected, writes } = await execute(name);
      expect(expected.compensation).toBe(name === 'partial' ? 'PARTIAL' : name === 'byHand' ? 'PARTIAL' : 'COMPLETE');
      expect(writes).toBeLessThan(MAX_WRITES);
      for (const how of ['dies_before', 'dies_after', 'given_back'] as const) {
        for (let place = EVERY_POINT ? 1 : 1 + (started++ % 2); place <= writes; place += EVERY_POINT ? 1 : 2) {
          const { outcome } = await execute(name, { place, how });
          expect([how, place, outcome]).toEqual([how, place, expected]);
        }
      }
    }, 240_000);
  }
});
