import { activity, workflow } from '@perdure/worker-sdk';
import {
  type CrashOptions,
  createTestEnvironment,
  expectHistory,
  type TestEnvironment,
} from '@perdure/worker-sdk/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const shop = workflow('shop', async (ctx, orderId: string) => {
  await ctx.step('reserve', () => undefined);
  const paymentId = await ctx.step('charge', () => `pay-${orderId}`);
  await ctx.sleep('cool-off', '1 hour');
  await ctx.step('ship', () => undefined);
  return { orderId, paymentId };
});

/** @returns the message of what it rejects with */
const messageOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'it did not fail',
    (error: Error) => error.message,
  );

describe('assertions of the testing kit', () => {
  let env: TestEnvironment;
  beforeAll(async () => {
    env = await createTestEnvironment();
  });
  afterAll(() => env.close());

  it('a history that is not as expected is shown beside what was expected', async () => {
    const run = await env.start(shop, 'a-1');
    await run.result();
    await expectHistory(run).toMatch([
      'reserve',
      { step: 'charge', output: 'pay-a-1' },
      { step: /cool/, kind: 'sleep' },
      'ship',
    ]);
    await expectHistory(run).toContain(['reserve', 'ship']);
    const message = await messageOf(expectHistory(run).toMatch(['reserve', { step: 'charge', attempts: 2 }, 'ship']));
    expect(message).toContain(`The history of run ${run.runId} is not as expected (- expected, + found):`);
    expect(message.split('\n').slice(2, -1)).toEqual([
      '    reserve                  completed, 1 attempt',
      '  - charge                   2 attempts',
      '  + charge                   completed, 1 attempt',
      '  + cool-off                 sleep, completed, 1 attempt',
      '    ship                     completed, 1 attempt',
    ]);
    expect(await messageOf(expectHistory(run).toContain(['ship', 'reserve']))).toMatch(/- (ship|reserve)/);
  });

  it('a crash test names the crash point and what was different', async () => {
    let charged = 0;
    const careless = workflow('careless', async (ctx) => {
      // Counts what is executed, not what is charged.
      const total = await ctx.step('charge', () => ++charged);
      return ctx.step('receipt', () => `total ${total}`);
    });
    const message = await messageOf(env.crashEverywhere(careless, undefined, { probe: () => charged }));
    expect(message).toContain("Two executions of workflow 'careless' without a crash differ at result, probe");

    const doubled = workflow('doubled', async (ctx) => {
      const { workflowId, namespace } = ctx.run;
      const key = `${namespace}/${workflowId}`;
      await ctx.step('charge', () => {
        counts.set(key, (counts.get(key) ?? 0) + 1);
      });
      return ctx.step('receipt', () => ({ charges: counts.get(key) }));
    });
    const counts = new Map<string, number>();
    const failure = await messageOf(env.crashEverywhere(doubled));
    expect(failure).toContain("Workflow 'doubled' comes to something else when its worker crashes, at");
    expect(failure).toContain("before CompleteStep of 'charge':\n    result.charges: without a crash 1, with it 2");
  });

  it('a crash test says at once that the workflow does not end without a crash either', async () => {
    const stuck = workflow('stuck', (ctx) => ctx.waitForSignal('never'));
    expect(await messageOf(env.crashEverywhere(stuck, undefined, { timeout: '1s' }))).toContain(
      "An execution of workflow 'stuck' without a crash did not come to its end: ",
    );
    const drive = () => Promise.reject(new Error('There is no door.'));
    expect(await messageOf(env.crashEverywhere(shop, 'a-3', { drive }))).toContain('its end: There is no door.');
    let looks = 0;
    const waiting: CrashOptions['drive'] = async ({ until }) => void (await until(() => ++looks < 0));
    expect(await messageOf(env.crashEverywhere(stuck, undefined, { drive: waiting, timeout: '1s' }))).toContain(
      'drive did not end',
    );
    const seen = looks;
    await env.run(shop, 'a-4');
    expect(looks).toBe(seen);
  });

  it('a careful workflow passes, and its report names the crash points', async () => {
    const report = await env.crashEverywhere(shop, 'a-2');
    expect(report.notReached).toEqual([]);
    expect(report.names).toEqual(
      expect.arrayContaining([
        "before CompleteStep of 'charge'",
        "after ScheduleSleep of 'cool-off'",
        'after CompleteWorkflow',
      ]),
    );
    expect(report.points).toBe(report.names.length);
  });

  it('mistakes are refused with the name of what is wrong', async () => {
    await expect(createTestEnvironment({ timeskips: 'manual' } as never)).rejects.toThrow(
      "A test environment has no option 'timeskips'; did you mean 'timeSkips'?",
    );
    await expect(createTestEnvironment({ timeSkips: 'never' as never })).rejects.toThrow(
      "timeSkips must be 'automatic' or 'manual'",
    );
    await expect(createTestEnvironment({ databaseUrl: 'localhost' })).rejects.toThrow(
      'databaseUrl must be a connection string',
    );
    expect(() => env.stub('charge', 'paid' as never)).toThrow('A stub needs a function');
    expect(() => env.stub('charge', () => 1, { workflows: shop } as never)).toThrow("A stub has no option 'workflows'");
    await expect(env.advance('soon' as never)).rejects.toThrow('The duration of advance must be');
    await expect(env.run({} as never, undefined as never)).rejects.toThrow('The first argument is {}, not a workflow');
    await expect(env.crashEverywhere(shop, 'a', { prob: () => 1 } as never)).rejects.toThrow("did you mean 'probe'?");
    const run = await env.start(shop, 'a-3');
    await expect(expectHistory(run).toMatch([{ name: 'charge' } as never])).rejects.toThrow(
      "An expected step has no option 'name'",
    );
    await run.result();
    await expect(env.untilWaiting(run, 'approved')).rejects.toThrow('has ended as COMPLETED');
  });

  it('time passes beside a body that hangs, when it is told to', async () => {
    const hanging = activity('hanging', () => new Promise(() => undefined), {
      timeout: '1 hour',
      retry: { maxAttempts: 1 },
    });
    const run = await env.start(hanging);
    await env.until(() => env.calls('hanging').length > 0);
    await env.advance('2 hours', { duringBodies: true });
    await expect(run.result()).rejects.toMatchObject({ cause: { name: 'StepTimeoutError' } });
  });
});
