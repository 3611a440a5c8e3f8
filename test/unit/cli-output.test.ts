import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import {
  DescribeRunResponseSchema,
  DiagnoseResponseSchema,
  GetServerInfoResponseSchema,
  RunStatus,
  WaitReason,
} from '@perdure/proto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { checksOf, type Findings } from '../../packages/cli/dist/doctor/checks.js';
import { nextSteps } from '../../packages/cli/dist/output/describe-view.js';
import { stackFrames } from '../../packages/cli/dist/output/failures.js';
import { fitColumns } from '../../packages/cli/dist/output/table.js';
import { timeFromText, timeText } from '../../packages/cli/dist/output/time.js';

describe('fitColumns', () => {
  it('columns are not changed while there is room', () => {
    expect(fitColumns([{ width: 10, min: 5 }, { width: 10 }], 22)).toEqual([10, 10]);
  });

  it('the widest column that may be cut is cut, down to its least width', () => {
    expect(fitColumns([{ width: 30, min: 5 }, { width: 20, min: 5 }, { width: 10 }], 44)).toEqual([15, 15, 10]);
    expect(fitColumns([{ width: 30, min: 5 }, { width: 36 }], 10)).toEqual([5, 36]);
  });

  it('columns are omitted in their order when cutting is not enough, and the others get the room', () => {
    const columns = [
      { width: 36 },
      { width: 20, min: 12 },
      { width: 20, dispensable: 2 },
      { width: 8, dispensable: 1 },
    ];
    expect(fitColumns(columns, 80)).toEqual([36, 20, 20, undefined]);
    expect(fitColumns(columns, 60)).toEqual([36, 20, undefined, undefined]);
    expect(fitColumns(columns, 10)).toEqual([36, 12, undefined, undefined]);
  });
});

describe('stackFrames', () => {
  const stack = [
    'Error: no',
    '    at charge (file:///app/src/orders.ts:5:145)',
    '    at file:///app/node_modules/@perdure/worker-sdk/dist/execution/step-body.js:36:51',
    '    at file:///app/node_modules/.pnpm/@perdure+worker-sdk@0.1.0/node_modules/@perdure/worker-sdk/dist/x.js:1:1',
    '    at AsyncLocalStorage.run (node:async_hooks:346:14)',
    '    at async Promise.all (index 0)',
    '    at async /app/src/perdure.ts:9:1',
  ].join('\n');

  it("stacks show the author's own frames", () => {
    expect(stackFrames(stack, false)).toEqual([
      '    at charge (file:///app/src/orders.ts:5:145)',
      '    at async /app/src/perdure.ts:9:1',
    ]);
  });

  it('stacks show all frames on request', () => {
    expect(stackFrames(stack, true)).toHaveLength(6);
  });
});

describe('times', () => {
  afterEach(() => vi.unstubAllEnvs());
  const at = (text: string) => timestampFromDate(new Date(text));

  it.each([
    ['UTC', '2026-11-23 19:41:04Z'],
    ['Europe/Berlin', '2026-11-23 20:41:04+01:00'],
    ['Asia/Kolkata', '2026-11-24 01:11:04+05:30'],
    ['America/New_York', '2026-11-23 14:41:04-05:00'],
  ])('times are shown in local time with their offset: %s', (zone, text) => {
    vi.stubEnv('TZ', zone);
    expect(timeText(at('2026-11-23T19:41:04.900Z'))).toBe(text);
  });

  it('times are shown with their distance in the past and in the future', () => {
    vi.stubEnv('TZ', 'UTC');
    const now = at('2026-11-23T20:00:00Z');
    expect(timeFromText(at('2026-11-23T20:50:54Z'), now)).toBe('2026-11-23 20:50:54Z (in 50.9 min)');
    expect(timeFromText(at('2026-11-23T19:59:05Z'), now)).toBe('2026-11-23 19:59:05Z (55 s ago)');
  });
});

describe('nextSteps', () => {
  const now = timestampFromDate(new Date('2026-11-23T20:00:00Z'));
  const early = timestampFromDate(new Date('2026-11-23T19:00:00Z'));
  const described = (run: object, more: object) =>
    create(DescribeRunResponseSchema, {
      run: { runId: 'r1', namespace: 'default', taskQueue: 'q', ...run },
      now,
      reapersAlive: 1,
      ...more,
    });

  it.each([
    [
      'a failed run: history and the whole error',
      { status: RunStatus.FAILED, finishedAt: now },
      {},
      /history r1.*get r1 --full-stack/,
    ],
    ['a completed run: nothing', { status: RunStatus.COMPLETED, finishedAt: now }, {}, /^$/],
    ['no worker: those that have gone', {}, { waitReason: WaitReason.NO_WORKER }, /worker list --all -q 'q'/],
    [
      'no worker with the type: what each has',
      {},
      { waitReason: WaitReason.NO_WORKER_FOR_TYPE },
      /worker list -o wide/,
    ],
    ['no slot: the queues', {}, { waitReason: WaitReason.NO_FREE_SLOT }, /queue list/],
    ['an overdue sleeper beside reapers: nothing', { wakeAt: early }, { waitReason: WaitReason.TIMER }, /^$/],
    [
      'an overdue sleeper without any: a reaper',
      { wakeAt: early },
      { waitReason: WaitReason.TIMER, reapersAlive: 0 },
      /^perdure reaper/,
    ],
    [
      'a lost lease without any: a reaper',
      {},
      { waitReason: WaitReason.LEASE_EXPIRED, reapersAlive: 0 },
      /^perdure reaper/,
    ],
    [
      'another namespace: it is named',
      { namespace: 'a' },
      { waitReason: WaitReason.STEP_RETRY },
      /perdure --namespace a run history/,
    ],
    ['an executing run: watch', {}, { waitReason: WaitReason.EXECUTING }, /run watch r1/],
  ])('%s', (_, run, more, expected) => {
    expect(nextSteps(described(run, more)).join('\n').replaceAll('\n', ' ')).toMatch(expected);
  });
});

describe('checksOf', () => {
  const findings = (more: { info?: object; diagnosis?: object; localMs?: number } = {}): Findings => ({
    address: 'a:1',
    namespace: 'default',
    info: create(GetServerInfoResponseSchema, {
      version: '1',
      servers: 1,
      durable: true,
      now: timestampFromDate(new Date(0)),
      reapers: [{ identity: 'ops-1:7' }],
      ...more.info,
    }),
    diagnosis: create(DiagnoseResponseSchema, more.diagnosis ?? {}),
    workersOnline: 1,
    recentMs: 3_600_000,
    localMs: more.localMs ?? 0,
  });
  const problems = (given: Findings) =>
    checksOf(given).flatMap(({ id, status }) => (status === 'ok' ? [] : [`${id} ${status}`]));

  it('doctor reports no problems when there are none', () => {
    expect(problems(findings())).toEqual([]);
  });

  it.each([
    ['fsync off', { info: { durable: false } }, ['durability fail']],
    ['clocks apart', { localMs: 6_000 }, ['clock warn']],
    ['no reaper', { info: { reapers: [] } }, ['reapers fail']],
    ['overdue sleepers', { diagnosis: { overdueSleepers: 2n } }, ['overdue-sleepers fail']],
    ['expired leases beside a reaper', { diagnosis: { expiredLeases: 2n } }, ['expired-leases warn']],
    [
      'expired leases without one',
      { info: { reapers: [] }, diagnosis: { expiredLeases: 2n } },
      ['reapers fail', 'expired-leases fail'],
    ],
    [
      'held runs',
      { diagnosis: { paused: [{ workflowType: 'w', held: true, runs: 2n, newestRunId: 'r', newest: {} }] } },
      ['held-runs warn'],
    ],
    [
      'paused runs and queues',
      {
        diagnosis: {
          paused: [{ workflowType: 'w', held: false, runs: 2n, newestRunId: 'r', newest: {} }],
          pauses: [{ kind: 1, name: 'q', pausedBy: 'a', reason: 'b' }],
        },
      },
      ['pauses warn'],
    ],
    ['lost leases', { diagnosis: { runsLosingLeases: 2n, mostLostLeases: 3 } }, ['lost-leases warn']],
    [
      'a queue without workers',
      { diagnosis: { withoutWorker: [{ taskQueue: 'q', workflowType: 'w', runs: 1n, workersOnline: 0 }] } },
      ['queues-without-workers fail'],
    ],
    [
      'a type without workers',
      { diagnosis: { withoutWorker: [{ taskQueue: 'q', workflowType: 'w', runs: 1n, workersOnline: 2 }] } },
      ['types-without-workers fail'],
    ],
    ['failed runs', { diagnosis: { failed: [{ workflowType: 'w', runs: 1n }] } }, ['failed-runs warn']],
  ])('%s', (_, more, expected) => {
    expect(problems(findings(more))).toEqual(expected);
  });
});
