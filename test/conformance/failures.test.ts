import { randomBytes } from 'node:crypto';
import { aesGcmCodec, Client, RetryableError, Worker, WorkflowFailedError, workflow } from '@perdure/worker-sdk';
import { pino } from 'pino';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';

class Money {}

describe('errors that a client sees', () => {
  let perdure: TestPerdure;
  const taskQueue = `q-${uuid()}`;
  const once = { retry: { maxAttempts: 1 } } as const;
  const bodies: Record<string, () => unknown> = {
    function: () => ({ items: [1, { fn: () => 1 }] }),
    money: () => new Money(),
    large: () => 'x'.repeat(3 * 1024 * 1024),
    declined: () => {
      throw Object.assign(new TypeError('declined'), {
        code: 'card_declined',
        cause: new AggregateError([new Error('a'), new RangeError('b')]),
      });
    },
    later: () => {
      throw new RetryableError('later', { code: 'E' });
    },
    mock: () =>
      Object.defineProperty({}, 'then', {
        get: () => {
          throw new Error('not expected');
        },
      }),
    hostile: () => {
      throw Object.defineProperty(new Error('x'), 'message', {
        get: () => {
          throw new Error('hidden');
        },
      });
    },
  };
  const failing = workflow('failing', (ctx, which: string) =>
    ctx.step('charge', () => bodies[which]?.() as string, once),
  );
  const wrapping = workflow('wrapping', async (ctx, which: string) => {
    try {
      await ctx.step('charge', () => bodies[which]?.() as string, once);
    } catch (cause) {
      throw new Error('no order', { cause });
    }
  });
  const output = workflow('output', async () => ({ at: [new Money()] }));
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: CLOCK_MOVING_REAPER });
    await perdure.startWorker({ taskQueue, workflows: [failing, wrapping, output] });
  });
  afterAll(() => perdure.stop());

  const errorOf = async (work: Promise<unknown>) => {
    const error = await work.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(WorkflowFailedError);
    return error as WorkflowFailedError;
  };
  const run = (which: string, definition: typeof failing | typeof wrapping = failing) =>
    errorOf(
      perdure.client.execute(definition as typeof failing, which, {
        taskQueue,
        workflowId: `id-${which}-${uuid()}`,
        timeout: '25s',
      }),
    );

  it('the error of a failed run names workflow, ids, step, error name and code, and keeps classes, causes and only the frames of the author', async () => {
    const error = await run('declined');
    expect(error.message).toBe(
      `Workflow 'failing' (id '${error.workflowId}', run ${error.runId}) failed in step 'charge': TypeError [card_declined]: declined`,
    );
    expect(error).toMatchObject({ stepId: 'charge', workflowType: 'failing' });
    expect(error.cause).toBeInstanceOf(TypeError);
    const { errors } = error.cause.cause as AggregateError;
    expect(errors[1]).toBeInstanceOf(RangeError);
    expect(error.cause.stack).toContain('failures.test');
    for (const stack of [error.stack, error.cause.stack]) expect(stack).not.toMatch(/worker-sdk|node:/);
  });

  it('the error of a failed run names the step even when the code wraps its error', async () => {
    const error = await run('declined', wrapping);
    expect(error.message).toMatch(/ failed in step 'charge': no order$/);
    expect((error.cause.cause as Error).message).toBe('declined');
  });

  it('name the step also when what its body returned cannot even be asked whether it is a promise', async () => {
    expect(await run('mock')).toMatchObject({ stepId: 'charge', cause: { message: 'not expected' } });
  });

  it('say which part of which value cannot be encoded', async () => {
    expect((await run('function')).message).toContain(
      "TypeError: The result of step 'charge' cannot be recorded: .items[1].fn is a function. Expected JSON values",
    );
    expect((await run('money')).message).toContain('it is an instance of Money.');
    const error = await errorOf(perdure.client.execute(output, { taskQueue, timeout: '25s' }));
    expect(error.message).toContain(
      "failed: TypeError: The output of workflow 'output' cannot be recorded: .at[0] is an instance of Money.",
    );
    const input = (await perdure.client
      .start(failing, Symbol('s') as never, { taskQueue })
      .catch((thrown) => thrown)) as Error;
    expect(input.message).toMatch(/^The input of workflow 'failing' cannot be recorded: it is a symbol\./);
  });

  it('an error about a size names the size once', async () => {
    expect((await run('large')).message.match(/The result of step/g)).toHaveLength(1);
  });

  it('a RetryableError comes back as an instance of its class', async () => {
    const { cause } = await run('later');
    expect(cause).toBeInstanceOf(RetryableError);
    expect(cause).toMatchObject({ code: 'E' });
  });

  it('a thrown value that cannot be read is recorded as an error', async () => {
    expect((await run('hostile')).cause.message).toContain('cannot be read');
  });

  it('an encrypting codec encrypts errors: the database has placeholders, and the key reads everything', async () => {
    const codec = aesGcmCodec({ keys: { k1: randomBytes(32) }, activeKey: 'k1' });
    const queue = `q-${uuid()}`;
    const secret = workflow('secret', async (ctx, name: string) => {
      try {
        await ctx.step('fail', () => raise(`${name} has card 4111`), { retry: { maxAttempts: 2, initial: 1 } });
      } catch (error) {
        expect((error as Error).message).toBe('Erika has card 4111');
        await ctx.sleep('1h');
        throw new Error(`no order for ${name}`, { cause: error });
      }
    });
    const worker = new Worker({
      taskQueue: queue,
      workflows: [secret],
      connection: perdure.connection,
      codec,
      logger: pino({ level: 'silent' }),
      handleSignals: false,
      warmRuns: 0,
    });
    await worker.start();
    const client = new Client({ connection: perdure.connection, codec });
    const handle = await client.start(secret, 'Erika', { taskQueue: queue });
    await endSleep(perdure, handle.runId);
    const error = await errorOf(handle.result({ timeout: '25s' }));
    await worker.shutdown(0);
    expect(error.cause.message).toBe('no order for Erika');
    expect((error.cause.cause as Error).message).toBe('Erika has card 4111');
    const rows = await perdure.database.sql<{ failure: string }[]>`
      select failure::text from perdure.step_runs where run_id = ${error.runId} and failure is not null
      union all select failure::text from perdure.workflow_runs where run_id = ${error.runId}`;
    expect(rows).toHaveLength(3);
    for (const { failure } of rows) {
      expect(failure).not.toMatch(/Erika|4111|failures\.test/);
      expect(failure).toContain('The error is encrypted.');
    }
    const { run: seen } = await perdure.workflows.getRun({ runId: error.runId });
    expect(seen?.failure).toMatchObject({ type: 'Error', message: 'The error is encrypted.' });
    const summary = await client.get({ runId: error.runId });
    expect(summary).toMatchObject({ input: 'Erika', error: { message: 'no order for Erika' } });
  });
});

function raise(message: string): never {
  throw new Error(message);
}
