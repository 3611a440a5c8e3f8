import { execFileSync } from 'node:child_process';
import { TerminalError, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { until } from '../support/until.js';

// A colour would be in the way of what is matched.
vi.stubEnv('NO_COLOR', '1');
const { runCli } = await import('../../packages/cli/dist/run-cli.js');
vi.unstubAllEnvs();

/** What the command under way has printed so far. */
let printed = '';

/** Runs a command in this process, which is much faster than a process of its own; what it prints is caught. */
async function runCommand(perdure: TestPerdure, command: string) {
  printed = '';
  let errors = '';
  const out = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += String(text);
    return true;
  });
  const err = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    errors += String(text);
    return true;
  });
  try {
    const args = command.match(/'[^']*'|\S+/g)?.map((arg) => arg.replaceAll("'", '')) ?? [];
    const exitCode = await runCli(
      command.includes('--address') ? args : ['--address', perdure.server.grpcAddress, ...args],
    );
    return { exitCode, output: printed, errors };
  } finally {
    out.mockRestore();
    err.mockRestore();
  }
}

describe('commands', { timeout: 120_000 }, () => {
  let perdure: TestPerdure;
  const cli = (command: string) => runCommand(perdure, command);
  const startOne = async (type: string, more = '') =>
    (await cli(`run start ${type} -q q -o ids ${more}`)).output.trim();
  beforeAll(async () => {
    perdure = await startPerdure();
    const greet = workflow('greet', async (ctx, name: string) => ctx.step('compose', () => `Hello ${name}`));
    const fail = workflow('fail', async (ctx) => {
      await ctx.step(
        'broken',
        () => {
          throw Object.assign(new TypeError('no good'), { code: 'E_BAD' });
        },
        { retry: { maxAttempts: 2, initial: 1 } },
      );
    });
    const guestbook = workflow('guestbook', async (ctx) => {
      const names: string[] = [];
      const validate = (name: string) => {
        if (name === '') throw new Error('A name, please.');
      };
      const sign = (name: string) => {
        names.push(name);
        ctx.setState(names);
        return names;
      };
      ctx.handle('sign', sign, { validate });
      return ctx.waitForSignal('close');
    });
    const nap = workflow('nap', async (ctx) => {
      await ctx.sleep('long', '1h');
    });
    const family = workflow('family', async (ctx) =>
      Promise.all([ctx.child(nap), ctx.child(nap, undefined, { name: 'other' })]),
    );
    const declined = workflow('declined', async (ctx) => {
      await ctx.step(
        'charge',
        () => {
          const cause = Object.assign(new Error('connect refused'), { code: 'ECONNREFUSED' });
          throw Object.assign(new Error('limit\nreached', { cause }), {
            name: 'CardDeclined',
            details: { tenant: 't1' },
          });
        },
        { retry: { stopOn: ['CardDeclined'] } },
      );
    });
    const asking = workflow('asking', async (ctx) => {
      const promise = ctx.promise<string>('answer', { timeout: '3 days' });
      const paid = await ctx.waitForEvent('paid', { key: 'k', timeout: '1 day' });
      return [paid, await promise.result()];
    });
    const retrying = workflow('retrying', async (ctx) => {
      await Promise.all([
        ctx.sleep('limit', '2h'),
        ctx.step(
          'call',
          () => {
            throw new Error('HTTP 503');
          },
          { retry: { maxAttempts: 3, initial: '1h' } },
        ),
      ]);
    });
    const busy = workflow('busy', async (ctx) => {
      await ctx.step(
        'import',
        async (step) => {
          ctx.heartbeat({ at: 7 });
          await new Promise<void>((resolve) => {
            step.signal.addEventListener('abort', () => resolve());
          });
        },
        { timeout: '5m' },
      );
    });
    const again = workflow('again', { retry: { maxAttempts: 2, initial: 1 } }, async (ctx) => {
      try {
        await ctx.step(
          'flaky',
          () => {
            throw new Error('not yet');
          },
          { retry: { maxAttempts: 1 } },
        );
      } catch (error) {
        await ctx.step('undo', () => 1);
        throw error;
      }
    });
    const patient = workflow('patient', async (ctx) => {
      await ctx.step(
        'call',
        () => {
          throw new Error('no');
        },
        { retry: { maxAttempts: 2, initial: '20s', jitter: 0 } },
      );
    });
    const workflows = [guestbook, patient, again, family, greet, fail, nap, declined, retrying, busy, asking];
    await perdure.startWorker({ taskQueue: 'q', workflows, build: 'b7', identity: 'web-3:4711' });
  });
  afterAll(() => perdure.stop());

  it('a failed run is retried and restarted, and describe shows by whom and why', async () => {
    const taskQueue = `again-${uuid()}`;
    let isBroken = true;
    const again = workflow('again', async (ctx) =>
      ctx.step('may break', () => {
        if (isBroken) throw new TerminalError('not yet');
        return 'done';
      }),
    );
    const worker = await perdure.startWorker({ taskQueue, workflows: [again] });
    const id = (await cli(`run start again -q ${taskQueue} -o ids`)).output.trim();
    expect((await cli(`run result ${id}`)).exitCode).not.toBe(0);
    expect((await cli(`run describe ${id}`)).output).toContain(`run retry ${id}`);
    isBroken = false;
    expect((await cli(`run retry ${id} --reason repaired`)).output).toContain(`${id} retried`);
    expect((await cli(`run result ${id}`)).output).toContain('done');
    const described = (await cli(`run describe ${id}`)).output;
    expect(described).toMatch(/retried by .+: repaired \(was FAILED: .*not yet/);
    const refused = await cli(`run retry ${id}`);
    expect(refused.exitCode).not.toBe(0);
    expect(refused.errors).toContain('run restart');
    const other = (await cli(`run restart ${id} --workflow-id w-${taskQueue} -o ids`)).output.trim();
    expect(other).not.toBe(id);
    expect((await cli(`run result ${other}`)).output).toContain('done');
    expect((await cli(`run describe ${other}`)).output).toContain(`restart of ${id}`);
    expect((await cli(`run describe ${id}`)).output).toContain(`restarted as ${other}`);
    await worker.shutdown(0);
  });

  it('run fork starts a run from a step, and describe, list and tree show both', async () => {
    const taskQueue = `forks-${uuid()}`;
    const forks = workflow('forks', async (ctx, name: string) => [
      name,
      await ctx.step('a', () => 1),
      await ctx.step('b', () => 2),
    ]);
    const worker = await perdure.startWorker({ taskQueue, workflows: [forks] });
    const id = (
      await cli(`run start forks -q ${taskQueue} --input '"x"' --workflow-id w-${taskQueue} -o ids`)
    ).output.trim();
    expect((await cli(`run result ${id}`)).exitCode).toBe(0);
    const forked = await cli(`run fork w-${taskQueue} b --input '"y"' --reason 'another name'`);
    expect(forked.output).toMatch(
      /forked from step 'b' as .+, workflow id w-forks-.+\/fork-1; 1 step keeps its outcome/,
    );
    const [fork] = /(?<= as )[0-9a-f-]{36}/.exec(forked.output) as unknown as [string];
    expect(JSON.parse((await cli(`run result ${fork} -o json`)).output)).toMatchObject({ value: ['y', 1, 2] });
    expect((await cli(`run describe ${fork}`)).output).toContain(`fork of ${id}`);
    expect((await cli(`run describe ${id}`)).output).toMatch(`forked from step 'b' as ${fork}`);
    expect((await cli(`run list -q ${taskQueue} -o json`)).output).toContain(`"originRunId": "${id}"`);
    expect((await cli(`run tree ${fork}`)).errors).toContain(`Origin: fork of ${id}.`);
    expect((await cli(`run tree ${id}`)).errors).toContain(`forked from step 'b' as ${fork}`);
    expect(JSON.parse((await cli(`run fork ${id} b -o json`)).output)).toMatchObject({ id, keptSteps: 1 });
    const refused = await cli(`run fork ${id} c`);
    expect(refused.exitCode).not.toBe(0);
    expect(refused.errors).toContain("There is no step 'c'");
    await worker.shutdown(0);
  });

  it('run failures counts what failed alike and lists the runs of a group; run dismiss takes a run from it', async () => {
    const taskQueue = `q-${uuid()}`;
    const type = `unpaid-${uuid()}`;
    const unpaid = workflow(type, async (ctx, order: number) =>
      ctx.step('charge', () => {
        throw new TerminalError(`Order ${order} is not paid`);
      }),
    );
    const worker = await perdure.startWorker({ taskQueue, workflows: [unpaid] });
    const ids: string[] = [];
    for (const order of [17, 4]) {
      ids.push((await cli(`run start ${type} -q ${taskQueue} -o ids --input ${order}`)).output.trim());
      expect((await cli(`run result ${ids.at(-1)}`)).exitCode).toBe(1);
    }
    const groups = await cli(`run failures --type ${type}`);
    expect(groups.output).toMatch(/^FINGERPRINT +RUNS +TYPE +STEP +ERROR/);
    expect(groups.output).toMatch(
      new RegExp(`\\n[0-9a-f]{16} +2 +${type} +charge +TerminalError: Order 4 is not paid .* ${ids[1]}$`, 'm'),
    );
    const fingerprint = (await cli(`run failures --type ${type} -o ids`)).output.trim();
    expect(JSON.parse((await cli(`run failures --type ${type} -o json`)).output)).toMatchObject([
      { fingerprint, runs: 2, newestFailure: { type: 'TerminalError', stepId: 'charge', reason: 'APPLICATION' } },
    ]);
    const [older = ''] = ids;
    expect((await cli(`run dismiss ${older} --reason 'paid in cash'`)).output).toContain(`${older} dismissed`);
    expect((await cli(`run dismiss ${older}`)).output).toContain('had been dealt with before');
    expect((await cli(`run describe ${older}`)).output).toMatch(/dismissed by .+: paid in cash/);
    expect((await cli(`run failures ${fingerprint} -o ids`)).output.trim()).toBe(ids[1]);
    expect((await cli(`run list --unresolved --type ${type} -o ids`)).output.trim()).toBe(ids[1]);
    expect((await cli('run failures nonsense')).exitCode).toBe(2);
    expect((await cli('run failures --type nothing')).output.trim()).toBe('No dead letters.');
    await worker.shutdown(0);
  });

  it('bulk says what matches, acts on all of it, shows what came of it, and refuses what cannot be meant', async () => {
    const type = `bulk-${uuid()}`;
    const ids = [await startOne(type), await startOne(type), await startOne(type)].sort();
    const preview = await cli(`bulk cancel --type ${type} --dry-run -o json`);
    expect(JSON.parse(preview.output)).toMatchObject({
      matched: 3,
      matchedIsExact: true,
      sample: ids.map((runId) => ({ runId })),
    });
    expect(await cli(`bulk cancel --type ${type} --dry-run`)).toMatchObject({ exitCode: 0, errors: '3 runs match.\n' });
    expect(await cli(`bulk cancel --type ${type}`)).toMatchObject({
      exitCode: 2,
      errors: expect.stringContaining('--yes'),
    });
    expect(await cli('bulk cancel --yes')).toMatchObject({ exitCode: 2, errors: expect.stringContaining('--all') });
    const wrong = await cli(`bulk cancel --type ${type} --status failed --yes`);
    expect(wrong).toMatchObject({ exitCode: 2, errors: expect.stringContaining('for CANCEL; got FAILED') });
    expect((await cli(`bulk cancel --type ${type} --rate 0 --yes`)).exitCode).toBe(2);

    const signalled = await cli(`bulk signal go '{"n":1}' --type ${type} --yes --reason 'it is time'`);
    expect(signalled).toMatchObject({
      exitCode: 0,
      output: expect.stringMatching(/^[0-9a-f-]{36} COMPLETED: 3 changed\n$/),
    });
    const id = signalled.output.split(' ')[0] ?? '';
    const described = (await cli(`bulk describe ${id}`)).output;
    expect(described).toMatch(/kind +signal 'go'\nstatus +COMPLETED\nruns +--status pending,.* --type bulk-/);
    expect(described).toMatch(/started by .+: it is time/);
    expect((await cli('bulk list')).output).toMatch(new RegExp(`${id} +signal +COMPLETED +3 of 3 +0`));
    expect(JSON.parse((await cli(`bulk describe ${id} -o json`)).output)).toMatchObject({
      kind: 'SIGNAL',
      filter: { workflowType: type, statuses: expect.arrayContaining(['PENDING', 'WAITING']) },
    });
    expect(await cli(`bulk abort ${id}`)).toMatchObject({ exitCode: 5, errors: expect.stringContaining('has ended') });

    const slow = (await cli(`bulk cancel --type ${type} --yes --rate 1 --detach -o ids`)).output.trim();
    expect((await cli(`bulk pause ${slow} --reason wait`)).output).toMatch(/PAUSED: \d changed/);
    expect((await cli(`bulk resume ${slow}`)).output).toMatch(/RUNNING: \d changed/);
    expect((await cli(`bulk abort ${slow}`)).output).toMatch(/ABORTED: \d changed/);
    expect(await cli(`bulk watch ${slow}`)).toMatchObject({
      exitCode: 1,
      errors: expect.stringContaining('was aborted'),
    });
    expect((await cli(`bulk terminate --type ${type} --yes`)).exitCode).toBe(0);
    expect((await cli(`bulk delete --type ${type} --yes`)).output).toContain('COMPLETED: 3 changed');
    expect((await cli(`run list --type ${type} -o ids`)).output).toBe('');
  });

  it('step complete, fail and skip end steps by hand, and describe and history show who has, and why', async () => {
    const taskQueue = `hands-${uuid()}`;
    const hands = workflow('hands', async (ctx) => [
      await ctx.waitForSignal('one'),
      await ctx.waitForSignal('two').catch((error: Error) => `${error.name}: ${error.message}`),
      (await ctx.waitForSignal('three')) ?? 'nothing',
    ]);
    const worker = await perdure.startWorker({ taskQueue, workflows: [hands] });
    const id = (await cli(`run start hands -q ${taskQueue} --workflow-id w-${taskQueue} -o ids`)).output.trim();
    const waits = (name: string) =>
      until(`the wait for ${name}`, async () => (await cli(`run describe ${id}`)).output.includes(`signal '${name}'`));
    await waits('one');
    const completed = await cli(`step complete w-${taskQueue} one --result '[1]' --reason 'it was lost'`);
    expect(completed).toMatchObject({ exitCode: 0, output: `Step 'one' of run ${id} was completed by hand.\n` });
    await waits('two');
    expect((await cli(`step fail ${id} two 'no more' --type Gone`)).exitCode).toBe(0);
    await waits('three');
    const skipped = await cli(`step skip ${id} three -o json`);
    expect(JSON.parse(skipped.output)).toEqual({ runId: id, stepId: 'three', attemptNumber: 1, status: 'SKIPPED' });
    expect((await cli(`run result ${id}`)).output).toMatch(/1[\s\S]*Gone: no more[\s\S]*nothing/);
    expect((await cli(`run describe ${id}`)).output).toMatch(/completed step 'one' by .+: it was lost/);
    expect((await cli(`run history ${id} -o wide`)).output).toMatch(/one .*COMPLETED.*by hand: .+: it was lost/);
    expect((await cli(`step get ${id} two`)).output).toMatch(/by hand .*failed step 'two' by /);
    const refused = await cli(`step skip ${id} one`);
    expect(refused.exitCode).not.toBe(0);
    expect(refused.errors).toContain('COMPLETED');
    expect((await cli(`step complete ${id} one --result x`)).errors).toContain('The result is not JSON');
    await worker.shutdown(0);
  });

  it('run describe and history say what a waiting run waits for; event and promise bring it', async () => {
    const runId = await startOne('asking');
    await until('the run to wait', async () => (await cli(`run get ${runId}`)).output.includes('WAITING'));
    const described = (await cli(`run describe ${runId}`)).output;
    expect(described).toMatch(
      /It waits for promise 'answer' \(for .*, times out in (3 d|72 h)\) and event 'paid' with key 'k' \(for .*, times out in (1 d|24 h)\)\./,
    );
    expect(described).toMatch(/paid +waits for event paid \(key 'k'\), since .*, times out /);
    const [promiseId] = /[0-9a-f]{40}/.exec(described) as unknown as [string];
    expect(described).toContain(`perdure promise resolve ${promiseId} '<json>'  # resolve 'answer'`);
    const json = JSON.parse((await cli(`run describe ${runId} -o json`)).output);
    expect(json).toMatchObject({ waitReason: 'ARRIVAL', run: { status: 'WAITING' } });
    expect((await cli(`run history ${runId} -o wide`)).output).toMatch(
      /paid +EVENT +WAITING .*waits for event paid \(key 'k'\) until/,
    );
    expect((await cli('run list -s waiting -o ids')).output).toContain(runId);

    expect(await cli('event publish paid {')).toMatchObject({ exitCode: 2 });
    const published = await cli(`event publish paid '{"amount":5}' --key k --request-id e1`);
    expect(published.output).toMatch(/^Published event [0-9a-f-]{36}\. 1 wait received it\./);
    expect((await cli(`event publish paid --key k --request-id e1`)).output).toContain('was published before');
    expect((await cli('event list --name paid')).output).toMatch(/paid +k .*amount: 5/);
    expect(JSON.parse((await cli('event list -o json')).output)).toMatchObject([
      { name: 'paid', payload: { value: { amount: 5 } } },
    ]);

    expect((await cli('promise list')).output).toMatch(new RegExp(`${promiseId} +answer +PENDING`));
    expect(await cli(`promise resolve ${promiseId} '"yes"'`)).toMatchObject({
      exitCode: 0,
      output: `${promiseId} RESOLVED\n`,
    });
    expect(await cli(`promise resolve ${promiseId} '"no"'`)).toMatchObject({
      exitCode: 0,
      output: expect.stringContaining('RESOLVED before; nothing was changed'),
    });
    expect(await cli(`promise reject ${promiseId} never`)).toMatchObject({ exitCode: 5 });
    expect((await cli(`run result ${runId} -o json`)).output).toContain('yes');
    expect((await cli(`promise show ${promiseId}`)).output).toMatch(/state +RESOLVED[\s\S]*value +'yes'/);
    expect((await cli(`promise list --run ${runId}`)).output).toContain('RESOLVED');
    expect(await cli('promise show none')).toMatchObject({ exitCode: 3 });
  });

  it('a run is shown in every way', async () => {
    const id = await startOne('greet', `--input '"x"' --workflow-id my-order`);
    expect((await cli(`run result ${id}`)).exitCode).toBe(0);
    for (const command of [
      'get my-order',
      'describe my-order',
      `history ${id}`,
      `watch ${id}`,
      'list',
      'list -o wide',
      'count',
    ]) {
      const { exitCode, output } = await cli(`run ${command}`);
      expect([command, exitCode]).toEqual([command, 0]);
      expect(output).toMatch(/COMPLETED/);
    }
    const history = JSON.parse((await cli(`run history ${id} -o json --payloads`)).output) as {
      output: { value: string };
    }[];
    expect(history[0]?.output.value).toBe('Hello x');
    expect((await cli(`step get ${id} compose`)).output).toContain('Hello x');
    const listed = (await cli('run list -o jsonl --type greet')).output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { runId: string });
    expect(listed.some(({ runId }) => runId === id)).toBe(true);
  });

  it('queues, workers and namespaces are shown, and a worker is drained', async () => {
    await startOne('nap');
    expect((await cli('queue list')).output).toMatch(/^q /m);
    const id = (await cli('worker list -o ids')).output.trim();
    expect((await cli(`worker describe ${id}`)).output).toContain('ONLINE');
    expect((await cli('namespace create team-a -d test')).exitCode).toBe(0);
    expect((await cli('namespace create team-a')).exitCode).toBe(5);
    expect((await cli('namespace list -o ids')).output).toBe('default\nteam-a\n');
    const empty = await cli('--namespace team-a doctor');
    expect([empty.exitCode, empty.output]).toEqual([0, expect.stringContaining('No problems found.')]);
    const spare = await perdure.startWorker({ taskQueue: 'other', workflows: [workflow('w', async () => 1)] });
    expect((await cli(`worker drain ${spare.workerId}`)).output).toContain('DRAINING');
  });

  it.each([
    ['run get nosuch', 3],
    ['run lst', 2],
    ['run list --nope', 2],
    ['run list -o xml', 2],
    ['run list --status none', 2],
    ['run list --status paused', 0],
    ['run pause', 2],
    ['run pause nosuch', 3],
    ['run resume', 2],
    ['run resume nosuch', 3],
    ['run resume nosuch --held', 2],
    ['run resume nosuch --type greet', 2],
    ['queue pause', 2],
    ['workflow resume', 2],
    ['--namespace nowhere queue pause q', 3],
    ['--namespace nowhere workflow pause w', 3],
    ['--namespace nowhere workflow list', 3],
    ['run list --since whenever', 2],
    ['run list --limit -1', 2],
    ['run list --cursor nonsense', 2],
    ['run start greet -q q --input-file /nope', 2],
    ['run start greet -q q --input-file /', 2],
    ['run start greet -q q --input 1 --input-file x', 2],
    ['run start greet -q q --reuse-policy sometimes', 2],
    ['run start greet -q q --max-lost-leases -1', 2],
    ['run start greet -q q --delay soon', 2],
    ['--address nonsense run list', 2],
    ['--address nonsense doctor', 2],
    ['help run strat', 2],
    ['completion tcsh', 2],
    ['--namespace nowhere run list', 3],
    ['--namespace nowhere run count', 3],
    ['--namespace nowhere worker list', 3],
    ['--namespace nowhere queue list', 3],
    ['--namespace nowhere doctor', 3],
    ['--address 127.0.0.1:9 doctor', 4],
    ['worker describe 01a20a24-0ec6-7502-8c21-9e1127a8c95e', 3],
    ['run result nosuch', 3],
    ['run watch nosuch', 3],
    ['run describe nosuch', 3],
    ['run history nosuch', 3],
    ['run cancel nosuch', 3],
    ['step attempts nosuch x', 3],
    ['version', 0],
    ['help run start', 0],
    ['run start greet', 2],
    [`run start greet -q q --input nojson`, 2],
    ['step get x y', 3],
    ['worker drain not-a-uuid', 2],
    ['--address 127.0.0.1:9 run list', 4],
    ['--namespace nowhere run start greet -q q', 3],
    ['--help', 0],
    ['--version', 0],
    ['run', 2],
  ])('%s ends with exit code %i', async (args, expected) => {
    const { exitCode, output, errors } = await cli(args);
    expect([exitCode, errors]).toEqual([expected, errors]);
    expect(`${output}${errors}`).not.toContain('    at ');
  });

  it('describe names the worker, the attempt, its timeout and its heartbeat, and a requested cancel', async () => {
    const id = await startOne('busy');
    const described = await until('the heartbeat to be recorded', async () => {
      const { output } = await cli(`run describe ${id}`);
      return output.includes('heartbeat { at: 7 }') && output;
    });
    expect(described).toMatch(
      /Worker web-3:4711 \(build b7\) is executing step 'import' \(attempt 1 of 3, for .*, times out in/,
    );
    expect(described).toMatch(/worker +web-3:4711, build b7 \(.*\); last sign of life .* ago; lease ends in/);
    expect(described).toMatch(/import {2}attempt 1 of 3, running since .* ago\), times out .*, heartbeat \{ at: 7 \}/);
    const cancelled = await cli(`run cancel ${id} --reason enough`);
    expect(cancelled.output).toContain('(cancellation requested)');
    await cli(`run result ${id}`);
  });

  it('children are shown with their parent: as a tree, in lists, in describe and in history', async () => {
    const id = await startOne('family', '--workflow-id family-1');
    const tree = await until('the children to wait', async () => {
      const { output } = await cli('run tree family-1');
      return output.split('SLEEPING').length === 3 && output;
    });
    expect(tree).toMatch(/family .*\n├─ nap .*nap .*\n└─ nap .*other/);
    expect((await cli(`run tree family-1 --max-children 1`)).errors).toContain(`--parent ${id}`);
    const ids = (await cli(`run list --parent ${id} -o ids`)).output.trim().split('\n');
    expect(ids).toHaveLength(2);
    expect((await cli(`run count --parent ${id}`)).output).toMatch(/total +2/);
    expect((await cli(`run get ${ids[0]}`)).output).toContain(`${id}, step 'other'`);
    const described = (await cli('run describe family-1')).output;
    expect(described).toContain(`It waits for child run ${ids[1]} (step 'nap') (for `);
    expect(described).toContain(`and child run ${ids[0]} (step 'other') (for `);
    expect((await cli('run history family-1')).output).toContain(`child ${ids[0]}`);
    await cli('run terminate family-1');
    await until('the children to end', async () => !(await cli('run tree family-1')).output.includes('SLEEPING'));
    expect((await cli('run list --parent nonsense')).exitCode).toBe(2);
  });

  it('describe says of every branch what it waits for, and history what follows', async () => {
    const id = await startOne('retrying');
    const described = await until('the run to wait', async () => {
      const { output } = await cli(`run describe ${id}`);
      return output.includes('SLEEPING') && output;
    });
    expect(described).toMatch(
      /Attempt 1 of 3 of step 'call' failed with Error: HTTP 503; the next one begins in .*\. Meanwhile 'limit' sleeps and wakes in/,
    );
    expect(described).toMatch(/limit {2}sleeps until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) \(in /);
    expect(described).toContain(`perdure run history ${id}`);
    const { output } = await cli(`run history ${id}`);
    expect(output).toMatch(/call +FUNCTION +1 of 3 +FAILED .* retry at \d{4}-/);
    expect(output).toMatch(/limit +SLEEP +SLEEPING .* wakes \d{4}-/);
    await cli(`run terminate ${id}`);
  });

  it('a failed run is shown with its step and causes, without the frames of the SDK', async () => {
    const id = await startOne('declined', '--workflow-id declined-1');
    expect((await cli(`run result ${id}`)).exitCode).toBe(1);
    const described = (await cli('run describe declined-1')).output;
    expect(described).toContain(
      "Step 'charge' failed with CardDeclined: limit ⏎ reached (caused by Error [ECONNREFUSED]: connect refused). It was attempt 1 of 3; not retried, because",
    );
    expect(described).not.toContain('step-body');
    expect(described).toContain("details { tenant: 't1' }");
    expect(described).toContain('category application, retryable; reason APPLICATION');
    expect(described).toContain("began in step 'charge', attempt 1 of 3");
    expect(described).toContain(
      `what to do: Remove the cause or deploy fixed code, then continue where it failed: perdure run retry ${id}`,
    );
    const history = await cli('run history declined-1');
    expect(history.output).toMatch(
      /FAILED .* application +final +CardDeclined: limit ⏎ reached ← Error \[ECONNREFUSED\]: connect refused/,
    );
    const json = JSON.parse((await cli('run describe declined-1 -o json')).output) as Record<string, unknown>;
    expect(json).toMatchObject({
      completedSteps: 0,
      worker: null,
      reapersAlive: 1,
      run: {
        priority: 0,
        build: '',
        failure: {
          details: { value: { tenant: 't1' } },
          nonRetryable: false,
          category: 'application',
          retryable: true,
          origin: { runId: id, workflowType: 'declined', stepId: 'charge', attempt: 1, maxAttempts: 3 },
        },
      },
    });
  });

  it('history marks what a retry of the whole run took back, and counts the attempts of the run', async () => {
    const id = await startOne('again');
    expect((await cli(`run result ${id}`)).exitCode).toBe(1);
    const { output, errors } = await cli(`run history ${id}`);
    expect(output).toMatch(/flaky .* retried +Error: not yet\n.*flaky .* final +Error: not yet\n/);
    expect(output).toMatch(/undo .* taken back: the run was retried\n.*undo .* COMPLETED/);
    expect(errors).toContain('The run is in attempt 2: 1 retry of the run.');
    expect((await cli(`run describe ${id}`)).output).toContain("It was the run's last of 2 attempts.");
  });

  it('list says when there is more, and continues where it stopped', async () => {
    const all = (await cli('run list --limit 0 -o ids')).output.trim().split('\n');
    const first = await cli('run list -n 1 -o ids');
    const cursor = /The first 1; there are more runs\. All: --limit 0\. Next page: --cursor (\S+)/.exec(
      first.errors,
    )?.[1];
    expect(first.output.trim()).toBe(all[0]);
    const rest = (await cli(`run list -n 0 -o ids --cursor ${cursor}`)).output.trim().split('\n');
    expect(rest).toEqual(all.slice(1));
  });

  it('tables fit the terminal, and run ids are never cut', async () => {
    const id = await startOne(
      'nap',
      '--workflow-id a-workflow-id-of-quite-some-length-that-nobody-would-cut-in-a-pipe',
    );
    const table = async (columns: number) => {
      vi.stubEnv('COLUMNS', String(columns));
      const { output } = await cli('run list');
      vi.unstubAllEnvs();
      return output;
    };
    for (const columns of [80, 100, 140]) {
      const lines = (await table(columns)).split('\n');
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(columns);
      expect(lines.join('\n')).toContain(id);
    }
    expect((await cli('run list')).output).toContain('that-nobody-would-cut-in-a-pipe');
    await cli(`run terminate ${id}`);
  });

  it('json omits nothing that is 0 or false, and counts have no row for the total', async () => {
    const workers = JSON.parse((await cli('worker list -o json')).output) as Record<string, unknown>[];
    expect(workers[0]).toMatchObject({ build: 'b7', running: 0, status: 'ONLINE' });
    const counts = JSON.parse((await cli('run count -o json')).output) as { status: string }[];
    expect(counts.map(({ status }) => status)).not.toContain('total');
    const id = await startOne('fail');
    await cli(`run result ${id}`);
    const history = JSON.parse((await cli(`run history ${id} -o json`)).output) as { isLatest: boolean }[];
    expect(history.map(({ isLatest }) => isLatest)).toEqual([false, true]);
    expect((await cli(`run history ${id} --payloads`)).errors).toContain('--payloads shows nothing in tables');
  });

  it('a start takes a reuse policy and a limit of lost leases', async () => {
    const id = await startOne('greet', '--workflow-id once --request-id r1 --max-lost-leases 2');
    await cli(`run result ${id}`);
    const again = await cli('run start greet -q q --workflow-id once --input 1 --reuse-policy reject');
    expect(again.exitCode).toBe(5);
    const other = await startOne('greet', '--workflow-id once --input 1');
    expect(other).not.toBe(id);
  });

  it('a payload that cannot be read is shown with its length and encoding', async () => {
    const input = { data: new Uint8Array(141), encoding: 'aes-256-gcm:k1+json/devalue' };
    const { runId } = await perdure.workflows.startWorkflow({ workflowType: 'x', taskQueue: 'elsewhere', input });
    expect((await cli(`run get ${runId}`)).output).toContain(
      "<141 bytes in encoding 'aes-256-gcm:k1+json/devalue', not readable here>",
    );
    await cli(`run terminate ${runId}`);
  });

  it('help of a subcommand names the global options, and help finds it by its path', async () => {
    const shown = (await cli('run start --help')).output;
    for (const option of ['--output', '--address', '--namespace', '--reuse-policy']) expect(shown).toContain(option);
    expect((await cli('help run start')).output).toBe(shown);
  });

  it('signals, updates and states: sent, answered, refused, and shown with who sent them', async () => {
    const runId = await startOne('guestbook', '--workflow-id book');
    const state = async () => (await cli('run state book -o json')).output;
    expect((await cli('run state book')).output).toContain('(no state)');
    expect((await cli(`run update book sign '"ada"'`)).output).toContain("[ 'ada' ]");
    expect(JSON.parse(await state())).toMatchObject({ runId, state: { value: ['ada'] } });
    const once = `run update ${runId} sign '"bob"' --request-id r -o json`;
    expect(JSON.parse((await cli(once)).output)).toMatchObject({ seq: 2, output: { value: ['ada', 'bob'] } });
    expect(JSON.parse((await cli(once)).output)).toMatchObject({ seq: 2, output: { value: ['ada', 'bob'] } });
    const refused = await cli(`run update book sign '""'`);
    expect(refused).toMatchObject({ exitCode: 1, errors: expect.stringContaining("Update 'sign' was refused") });
    expect((await cli('run update book sign nojson')).errors).toContain('The payload is not JSON');
    expect((await cli(`run signal book close '"late"' --request-id s`)).output).toContain("Sent 'close'");
    expect((await cli(`run signal book close --request-id s`)).output).toContain('sent before');
    expect((await cli(`run result ${runId}`)).output).toContain("'late'");
    const history = (await cli(`run history ${runId}`)).output;
    expect(history).toMatch(/update +UPDATE +COMPLETED .* got sign from \S+@\S+/);
    expect(history).toMatch(/got close from \S+@\S+/);
    expect((await cli(`run watch ${runId}`)).output).toMatch(/step update COMPLETED .*got sign from \S+@\S+/);
    expect((await cli('run update book sign 1')).errors).toContain('has ended');
  });

  it('a start with a signal starts the run or signals the open one', async () => {
    const start = (signal: string, more = '') =>
      cli(`run start guestbook -q q --workflow-id with-signal --signal '${signal}' ${more}`);
    expect((await start('other=1')).output).toContain('Started run');
    const { output } = await start('close="by signal"', '--wait');
    expect(output).toContain("'by signal'");
    expect((await start('close={')).errors).toContain('The payload of the signal is not JSON');
  });

  it('completion of bash knows commands, options and their values', async () => {
    const script = `${(await cli('completion bash')).output}
      t() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _perdure; echo "\${COMPREPLY[*]}"; }
      t perdure run st; t perdure run start w --re; t perdure run start --reuse-policy al; t perdure -o js`;
    expect(execFileSync('bash', ['-c', script], { encoding: 'utf8' }).trim().split('\n')).toEqual([
      'start state',
      '--request-id --reuse-policy',
      'allow allow-if-failed',
      'json jsonl',
    ]);
    expect((await cli('completion fish')).output).toContain("-a start -d 'start a run of a workflow'");
    expect((await cli('completion zsh')).output).toContain('bashcompinit');
  });

  // The last one, since it moves the clock.
  it('watch shows each status of an attempt once, even when a later attempt has begun', async () => {
    const id = await startOne('patient');
    await until('the first attempt to fail', async () => {
      const { steps } = await perdure.workflows.getHistory({ runId: id });
      return steps[0]?.failure !== undefined;
    });
    const watched = cli(`run watch ${id}`);
    await until('the first attempt to be told', () => printed.includes('step call attempt 1 of 2 FAILED'));
    await perdure.database.advanceClock(20_000);
    const { exitCode, output } = await watched;
    expect(exitCode).toBe(1);
    expect(output.match(/step call attempt 1 of 2 FAILED/g)).toHaveLength(1);
    expect(output.match(/step call attempt 2 of 2 FAILED/g)).toHaveLength(1);
  });
});

describe('perdure doctor without workers', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: false });
  });
  afterAll(() => perdure.stop());

  it('perdure doctor reports which runs do not move and why, for people and for programs', async () => {
    const nap = workflow('nap', async (ctx) => ctx.sleep('nap', '1m'));
    const broken = workflow('broken', async () => {
      throw new Error('no');
    });
    await perdure.startWorker({ taskQueue: 'q', workflows: [nap, broken], identity: 'web-3:4711' });
    const { runId } = await perdure.workflows.startWorkflow({ workflowType: 'nap', taskQueue: 'q' });
    await perdure.workflows.startWorkflow({ workflowType: 'typo', taskQueue: 'q' });
    await perdure.workflows.startWorkflow({ workflowType: 'nap', taskQueue: 'nobody' });
    const failing = await perdure.workflows.startWorkflow({ workflowType: 'broken', taskQueue: 'q' });
    await perdure.workflows.awaitRun({ runId: failing.runId });
    await until('the run to sleep', async () => {
      const { run: found } = await perdure.workflows.getRun({ runId });
      return found?.wakeAt !== undefined;
    });
    await perdure.database.advanceClock(115_000);

    const { exitCode, output } = await runCommand(perdure, 'doctor');
    expect(exitCode).toBe(1);
    expect(output).toContain('✗ No reaper is alive');
    expect(output).toMatch(
      /✗ 1 run should have woken already, by up to (5\d(\.\d)? s|1(\.\d)? min)\. No reaper is alive to wake them\./,
    );
    expect(output).toMatch(/✗ No worker polls this task queue: 'nobody' has 1 claimable run/);
    expect(output).toContain("✗ No worker online has registered 'typo' in task queue 'q' (1 claimable run)");
    expect(output).toContain("! 1 run FAILED in the last 1 h: 1 of 'broken'");

    const json = await runCommand(perdure, 'doctor -o json');
    const { status, checks } = JSON.parse(json.output) as {
      status: string;
      checks: { id: string; status: string; facts: object }[];
    };
    expect(status).toBe('fail');
    expect(Object.fromEntries(checks.map((check) => [check.id, check.status]))).toMatchObject({
      server: 'ok',
      database: 'ok',
      reapers: 'fail',
      'overdue-sleepers': 'fail',
      'expired-leases': 'ok',
      'lost-leases': 'ok',
      'queues-without-workers': 'fail',
      'types-without-workers': 'fail',
      'failed-runs': 'warn',
    });
    const described = (await runCommand(perdure, `run describe ${runId}`)).output;
    expect(described).toMatch(
      /It sleeps in 'nap'; that was due (5\d(\.\d)? s|1(\.\d)? min) ago\. No reaper is running to wake it\./,
    );
    expect(described).toContain('perdure reaper  # nobody wakes sleepers until one runs');
  });
});
