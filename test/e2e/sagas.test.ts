import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { TerminalError, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';

const CLI = fileURLToPath(new URL('../../packages/cli/bin/perdure.js', import.meta.url));

describe('compensations on the command line', { timeout: 120_000 }, () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
  });
  afterAll(() => perdure.stop());

  /** What a command of a process of its own has printed, on both streams. */
  const command = async (...args: string[]): Promise<string> => {
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      [CLI, '--address', perdure.server.grpcAddress, ...args],
      { env: { ...process.env, NO_COLOR: '1', COLUMNS: '300' } },
    ).catch((error: { stdout: string; stderr: string }) => error);
    return stdout + stderr;
  };

  it('are in lists, counts, descriptions and JSON, and an unknown state is refused', async () => {
    const taskQueue = `q-${uuid()}`;
    const trip = workflow('trip', async (ctx) => {
      ctx.onCompensate('flight', () => undefined);
      ctx.onCompensate('hotel', () => Promise.reject(new TerminalError('closed')));
      throw new TerminalError('no car');
    });
    await perdure.startWorker({ taskQueue, workflows: [trip] });
    const handle = await perdure.client.start(trip, { taskQueue });
    await expect(handle.result({ timeout: '60s' })).rejects.toThrow('no car');
    const { runId } = handle;
    expect(await command('run', 'list', '--compensation', 'partial', '-o', 'ids')).toBe(`${runId}\n`);
    expect(await command('run', 'list', '--compensation', 'complete', '-o', 'ids')).not.toContain(runId);
    expect(await command('run', 'count', '--compensation', 'PARTIAL')).toMatch(/FAILED +1\n/);
    const described = await command('run', 'describe', runId);
    expect(described).toMatch(/compensation +PARTIAL/);
    expect(described).toContain('compensated compensate:flight');
    expect(described).toContain('not compensated compensate:hotel: TerminalError: closed');
    expect(JSON.parse(await command('run', 'get', runId, '-o', 'json'))).toMatchObject({
      compensation: 'PARTIAL',
      failure: { compensation: { compensated: ['compensate:flight'], failed: [{ stepId: 'compensate:hotel' }] } },
    });
    expect(await command('run', 'list', '--compensation', 'half')).toContain(
      "Unknown compensation 'half'; expected one of: compensating, complete, partial.",
    );
  });
});
