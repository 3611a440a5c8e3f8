import { RunStatus } from '@perdure/proto';
import {
  aesGcmCodec,
  Client,
  RetryableError,
  StepTimeoutError,
  TerminalError,
  type WorkflowContext,
  WorkflowFailedError,
  workflow,
} from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

const fast = { initial: 5, jitter: 0 } as const;

describe('runs', () => {
  let perdure: TestPerdure;
  let client: Client;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: CLOCK_MOVING_REAPER });
    client = perdure.client;
  });
  afterAll(() => perdure.stop());

  /** Executes a workflow on a worker of its own. */
  const execute = async <Output>(
    code: (ctx: WorkflowContext, input: unknown) => Promise<Output>,
    input?: unknown,
    meanwhile: (runId: string) => Promise<unknown> = async () => undefined,
  ) => {
    const taskQueue = `q-${uuid()}`;
    const definition = workflow<unknown, Output>(`w-${uuid()}`, code);
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await client.start(definition, input, { taskQueue });
    await meanwhile(handle.runId);
    const result = await handle.result({ timeout: '20s' }).then(
      (output) => ({ output, error: undefined }),
      (error: unknown) => ({ output: undefined, error: error as WorkflowFailedError }),
    );
    return { ...result, handle };
  };
  const attemptsOf = async (runId: string, stepId: string) =>
    (await perdure.workflows.listStepAttempts({ runId, stepId })).attempts;

  it('a run completes with its output', async () => {
    const { output } = await execute(async (_, name) => `Hello ${name}`, 'you');
    expect(output).toBe('Hello you');
  });

  it('chained steps are executed once each', async () => {
    const executed: string[] = [];
    const { output, handle } = await execute(async (ctx) => {
      let value = 1;
      for (const name of ['a', 'b', 'c', 'a']) {
        value = await ctx.step(name, ({ stepId }) => {
          executed.push(stepId);
          return value * 2;
        });
      }
      return value;
    });
    expect(output).toBe(16);
    expect(executed).toEqual(['a', 'b', 'c', 'a#2']);
    const { steps } = await perdure.workflows.getHistory({ runId: handle.runId });
    expect(steps.map(({ stepId, seq }) => [stepId, seq])).toEqual([
      ['a', 1],
      ['b', 2],
      ['c', 3],
      ['a#2', 4],
    ]);
  });

  it('values that JSON would change are kept', async () => {
    const value = {
      date: new Date(0),
      big: 2n ** 70n,
      none: undefined,
      map: new Map([[1, new Set(['x'])]]),
      minusZero: -0,
      nan: Number.NaN,
      bytes: new Uint8Array([1, 2]),
      error: new TypeError('inside'),
      proto: JSON.parse('{"__proto__x":1,"constructor":2}'),
      lone: '\ud800',
      nul: 'a\u0000b',
    };
    const { output } = await execute(async (ctx, input) => ctx.step('same', () => input), value);
    expect(output).toEqual(value);
    expect(Object.is((output as typeof value).minusZero, -0)).toBe(true);
  });

  it('a thrown error fails the run with that message, name, code, cause and details', async () => {
    const { error } = await execute(async () => {
      throw Object.assign(new RangeError('too far', { cause: new Error('the root') }), {
        code: 'E_FAR',
        details: { at: 7n },
      });
    });
    expect(error).toBeInstanceOf(WorkflowFailedError);
    expect(error?.cause).toBeInstanceOf(RangeError);
    expect(error?.cause).toMatchObject({ message: 'too far', code: 'E_FAR', details: { at: 7n } });
    expect(error?.cause.cause).toMatchObject({ message: 'the root' });
    expect(error?.cause.stack).toContain('runs.test');
  });

  it('a run that throws a value other than an Error, or a message that the database cannot hold, fails clearly', async () => {
    expect((await execute(async () => Promise.reject('just text'))).error?.cause.message).toBe('just text');
    expect((await execute(async () => Promise.reject({ a: 1 }))).error?.cause.message).toContain('{"a":1}');
    const nul = await execute(async () => Promise.reject(new Error('a\u0000b\ud800')));
    expect(nul.error?.cause.message).toBe('a\ufffdb\ufffd');
    const long = await execute(async () => Promise.reject(new Error('ä'.repeat(100_000))));
    expect(Buffer.byteLength(long.error?.cause.message ?? '')).toBeLessThanOrEqual(65_536);
  });

  it('a step is retried until it succeeds, with one row for each attempt', async () => {
    let tries = 0;
    const { output, handle } = await execute(async (ctx) =>
      ctx.step(
        'flaky',
        () => {
          if (++tries < 4) throw new Error(`try ${tries}`);
          return tries;
        },
        { retry: { ...fast, maxAttempts: 5 } },
      ),
    );
    expect(output).toBe(4);
    const attempts = await attemptsOf(handle.runId, 'flaky');
    expect(
      attempts.map(({ attemptNumber, countedAttempt, isLatest, failure }) => [
        attemptNumber,
        countedAttempt,
        isLatest,
        failure?.message,
      ]),
    ).toEqual([
      [1, 1, false, 'try 1'],
      [2, 2, false, 'try 2'],
      [3, 3, false, 'try 3'],
      [4, 4, true, undefined],
    ]);
  });

  it('retries stop at maxAttempts, and the code may catch the error and continue', async () => {
    const { output, handle } = await execute(async (ctx) => {
      try {
        await ctx.step(
          'never',
          () => {
            throw new TypeError('no');
          },
          { retry: { ...fast, maxAttempts: 3 } },
        );
      } catch (error) {
        return ctx.step('after', () => `${(error as Error).name}: ${(error as Error).message}`);
      }
      return '';
    });
    expect(output).toBe('TypeError: no');
    expect(await attemptsOf(handle.runId, 'never')).toHaveLength(3);
  });

  it('non-retryable errors stop at once: TerminalError, stopOn, not in retryOn', async () => {
    const cases = [
      [new TerminalError('t', { code: 'DECLINED' }), {}],
      [Object.assign(new Error('s'), { code: 'CardDeclined' }), { stopOn: ['CardDeclined'] }],
      [new RangeError('r'), { retryOn: [TypeError] }],
    ] as const;
    for (const [thrown, policy] of cases) {
      const { error, handle } = await execute(async (ctx) =>
        ctx.step(
          's',
          () => {
            throw thrown;
          },
          { retry: { ...fast, maxAttempts: 9, ...policy } },
        ),
      );
      expect(error?.cause.message).toBe(thrown.message);
      expect(await attemptsOf(handle.runId, 's')).toHaveLength(1);
    }
  });

  it('retries respect the backoff of the policy and an explicit time of the next attempt', async () => {
    let tries = 0;
    const code = async (ctx: WorkflowContext) => {
      await ctx.step(
        'fixed',
        () => {
          if (++tries < 3) throw new Error('again');
        },
        { retry: { maxAttempts: 3, backoff: 'fixed', initial: 80, jitter: 0 } },
      );
      await ctx.step(
        'asked',
        ({ countedAttempt }) => {
          if (countedAttempt === 1) throw new RetryableError('later', { after: '1m' });
        },
        { retry: fast },
      );
    };
    const { handle } = await execute(code, undefined, (runId) => endSleep(perdure, runId));
    const startedMs = (await attemptsOf(handle.runId, 'fixed')).map(
      ({ startedAt }) => Number(startedAt?.seconds) * 1000 + (startedAt?.nanos ?? 0) / 1e6,
    );
    expect((startedMs[1] as number) - (startedMs[0] as number)).toBeGreaterThanOrEqual(79);
    expect((startedMs[2] as number) - (startedMs[1] as number)).toBeGreaterThanOrEqual(79);
    const [first, second] = await attemptsOf(handle.runId, 'asked');
    const waited =
      Number(second?.startedAt?.seconds) * 1000 +
      (second?.startedAt?.nanos ?? 0) / 1e6 -
      (Number(first?.finishedAt?.seconds) * 1000 + (first?.finishedAt?.nanos ?? 0) / 1e6);
    expect(waited).toBeGreaterThanOrEqual(59_999);
    // So long a wait does not keep a slot: the second try ran under another lease.
    expect(second?.leaseToken).toBe((first?.leaseToken ?? 0) + 1);
  });

  it('a step that takes too long fails with StepTimeoutError, and its signal is aborted', async () => {
    let aborted: unknown;
    const { error } = await execute(async (ctx) =>
      ctx.step(
        'slow',
        ({ signal }) =>
          new Promise<void>(() => {
            signal.addEventListener('abort', () => {
              aborted = signal.reason;
            });
          }),
        { timeout: 50, retry: { maxAttempts: 1 } },
      ),
    );
    expect(error?.cause).toBeInstanceOf(StepTimeoutError);
    expect(aborted).toBeInstanceOf(StepTimeoutError);
  });

  it('a silent step fails by its heartbeat timeout, and the next attempt resumes from the last detail', async () => {
    const { output, handle } = await execute(async (ctx) =>
      ctx.step(
        'chunks',
        async (step) => {
          const from = step.lastHeartbeat<number>() ?? 0;
          if (step.countedAttempt === 1) {
            step.heartbeat(5);
            await new Promise(() => undefined);
          }
          return from;
        },
        { heartbeatTimeout: 100, retry: { ...fast, maxAttempts: 2 } },
      ),
    );
    expect(output).toBe(5);
    const [first] = await attemptsOf(handle.runId, 'chunks');
    expect(first?.failure?.type).toBe('HeartbeatTimeoutError');
  });

  it('the idempotency key is the same for every attempt and differs between steps and runs', async () => {
    const keys: string[] = [];
    const code = async (ctx: WorkflowContext) => {
      await ctx.step(
        'a',
        ({ idempotencyKey, countedAttempt }) => {
          keys.push(idempotencyKey);
          expect(ctx.idempotencyKey).toBe(idempotencyKey);
          if (countedAttempt === 1) throw new Error('again');
        },
        { retry: fast },
      );
      await ctx.step('b', () => {
        keys.push(ctx.idempotencyKey);
      });
    };
    await execute(code);
    await execute(code);
    expect(keys[0]).toBe(keys[1]);
    expect(new Set(keys).size).toBe(4);
  });

  it('a retry of the run waits, and executes the failed step again but not the completed ones', async () => {
    const executed: string[] = [];
    const taskQueue = `q-${uuid()}`;
    const definition = workflow(
      'retried',
      { retry: { maxAttempts: 3, initial: 50, backoff: 'fixed', jitter: 0 } },
      async (ctx) => {
        await ctx.step('done', () => {
          executed.push('done');
        });
        await ctx.step(
          'failing',
          () => {
            executed.push('failing');
            throw new Error('not yet');
          },
          { retry: { maxAttempts: 1 } },
        );
      },
    );
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await client.start(definition, undefined, { taskQueue });
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow('not yet');
    expect(executed).toEqual(['done', 'failing', 'failing', 'failing']);
    const { run } = await perdure.workflows.getRun({ runId: handle.runId });
    expect(run).toMatchObject({ attempt: 3, retries: 2 });
    expect((await attemptsOf(handle.runId, 'failing')).map(({ attemptNumber }) => attemptNumber)).toEqual([1, 2, 3]);
  });

  it('inputs are validated on both sides, and the code gets the output of the schema', async () => {
    const taskQueue = `q-${uuid()}`;
    const definition = workflow(
      'typed',
      { input: z.object({ n: z.coerce.number(), tag: z.string().default('none') }) },
      async (_, input) => input,
    );
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    expect(await client.execute(definition, { n: '7' }, { taskQueue })).toEqual({ n: 7, tag: 'none' });
    await expect(client.start(definition, { n: 'x' }, { taskQueue })).rejects.toThrow(/n: /);
    // A caller without the schema is found out by the worker.
    const error = await client.execute('typed', { n: 'x' }, { taskQueue }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(WorkflowFailedError);
    expect((error as WorkflowFailedError).cause.name).toBe('InvalidInputError');
  });

  it('an output that is too large is rejected and the run fails clearly', async () => {
    const { error } = await execute(async () => 'x'.repeat(3 * 1024 * 1024));
    expect(error?.cause.name).toBe('PayloadTooLargeError');
    const step = await execute(async (ctx) => ctx.step('big', () => new Uint8Array(3 * 1024 * 1024)));
    expect(step.error?.cause.message).toContain("step 'big'");
  });

  it('a result that cannot be encoded fails the step without a retry', async () => {
    let executions = 0;
    const { error, handle } = await execute(async (ctx) =>
      ctx.step('fn', () => {
        executions++;
        return () => 1;
      }),
    );
    expect(error?.cause.message).toContain('cannot be recorded');
    expect(executions).toBe(1);
    expect(await attemptsOf(handle.runId, 'fn')).toHaveLength(1);
  });

  it('bad arguments of ctx reject with what was expected', async () => {
    const { output } = await execute(async (ctx) => {
      const messages: string[] = [];
      const note = (promise: Promise<unknown>) =>
        promise.catch((error: Error) => {
          messages.push(error.message);
        });
      await note(ctx.step('', () => 1));
      await note(ctx.step('x#2', () => 1));
      await note(ctx.step('opt', () => 1, { retries: 3 } as never));
      await note(ctx.sleep('soon' as never));
      await note(ctx.sleep(-1));
      await note(ctx.sleepUntil(new Date(Number.NaN)));
      await note(ctx.step('outer', () => ctx.step('inner', () => 1), { retry: { maxAttempts: 1 } }));
      try {
        ctx.heartbeat(1);
      } catch (error) {
        messages.push((error as Error).message);
      }
      return messages;
    });
    expect(output).toHaveLength(8);
    expect(output?.[2]).toContain("no option 'retries'");
    expect(output?.[6]).toContain('nested');
  });

  it('a run that has not ended by its timeout FAILs with that reason, and its code sees it', async () => {
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('slow', async (ctx) => {
      await ctx.sleep('1h');
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await client.start(definition, undefined, { taskQueue, runTimeout: 300 });
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow(/timeout/i);
    const stuck = await client.start(definition, undefined, { taskQueue, executionTimeout: 300 });
    await expect(stuck.result({ timeout: '20s' })).rejects.toThrow(/timeout/i);
  });

  it('floating and abandoned branches neither hang nor end the process', async () => {
    const { output } = await execute(async (ctx) => {
      void ctx.step(
        'floating',
        () => {
          throw new Error('nobody listens');
        },
        { retry: { maxAttempts: 1 } },
      );
      const winner = await Promise.race([ctx.sleep('long', '1h').then(() => 'timer'), ctx.step('quick', () => 'step')]);
      return winner;
    });
    expect(output).toBe('step');
  });

  it('a worker without the right codec gives runs back unharmed', async () => {
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('sealed', async (_, name: string) => `Hello ${name}`);
    const codec = aesGcmCodec({ keys: { k1: new Uint8Array(32).fill(1) }, activeKey: 'k1' });
    const sealing = new Client({ connection: perdure.connection, codec });
    const wrong = await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await sealing.start(definition, 'you', { taskQueue });
    await until(
      'the run to come back',
      async () => (await perdure.workflows.getRun({ runId: handle.runId })).run?.status === RunStatus.SLEEPING,
    );
    await wrong.shutdown();
    await perdure.startWorker({ taskQueue, workflows: [definition], codec });
    expect(await handle.result({ timeout: '20s' })).toBe('Hello you');
    const { run } = await perdure.workflows.getRun({ runId: handle.runId });
    expect(Buffer.from(run?.output?.data ?? []).toString('latin1')).not.toContain('Hello');
  });
});
