import { type StartRun, startIdentity, startRuns } from '@perdure/store';
import { v7 as uuid, v4 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTestStore, startCommand, type TestStore } from '../support/store.js';

const HOUR_MS = 3_600_000;

describe('equal request ids are one start, whenever they come', () => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openTestStore();
  });
  afterAll(() => store.stop());

  /** A start as a server makes it of a request that it gets at a time by its clock. */
  const startOf = (requestId: string, atMs: number, more: Partial<StartRun> = {}): StartRun => {
    const identity = startIdentity('default', requestId, atMs);
    return startCommand({ workflowId: more.workflowId ?? requestId, ...more, ...identity });
  };
  const start = async (...commands: StartRun[]) => startRuns(store.db, commands);
  const runIdsOf = async (...commands: StartRun[]) =>
    (await start(...commands)).map((outcome) => ('runId' in outcome ? outcome.runId : outcome.kind));

  const ids: Record<string, (nowMs: number) => string> = {
    'a UUIDv7 of now': (nowMs) => uuid({ msecs: nowMs }),
    'a UUIDv7 of a client whose clock is days ahead': (nowMs) => uuid({ msecs: nowMs + 72 * HOUR_MS }),
    'a UUIDv7 of long ago': (nowMs) => uuid({ msecs: nowMs - 720 * HOUR_MS }),
    'a UUIDv4': () => v4(),
    'a text': () => `order-${v4()}`,
  };
  for (const [name, idOf] of Object.entries(ids)) {
    it(`a request id that is ${name} is one start, also when repeated hours, a day and weeks later`, async () => {
      const nowMs = Date.now();
      const requestId = idOf(nowMs);
      const [first] = await runIdsOf(startOf(requestId, nowMs));
      for (const laterMs of [0, 1, 22, 23.5, 24.5, 26, 48, 1_000].map((hours) => nowMs + hours * HOUR_MS)) {
        expect(await start(startOf(requestId, laterMs))).toEqual([
          { kind: 'existing', runId: first, workflowId: requestId, status: 'PENDING' },
        ]);
      }
    });

    it(`a request id that is ${name} is one start, also with another workflow id and at the same moment`, async () => {
      const nowMs = Date.now();
      const requestId = idOf(nowMs);
      const commands = Array.from({ length: 8 }, (_, n) =>
        startOf(requestId, nowMs, { workflowId: `${requestId}-${n}` }),
      );
      const batches = [commands.slice(0, 3), commands.slice(3, 5), commands.slice(5)];
      const outcomes = (await Promise.all(batches.map((batch) => start(...batch)))).flat();
      const started = outcomes.flatMap((outcome, n) => (outcome.kind === 'started' ? [{ ...outcome, n }] : []));
      expect(started).toHaveLength(1);
      const workflowId = `${requestId}-${started[0]?.n}`;
      const existing = { kind: 'existing', runId: started[0]?.runId, workflowId, status: 'PENDING' };
      expect(outcomes.filter(({ kind }) => kind !== 'started')).toEqual(Array.from({ length: 7 }, () => existing));
    });
  }

  it('a request id that ages between two servers whose clocks differ by an hour is one start', async () => {
    for (let ageHours = 21; ageHours < 27; ageHours += 0.25) {
      const nowMs = Date.now();
      const requestId = uuid({ msecs: nowMs - ageHours * HOUR_MS });
      const clocks = [nowMs, nowMs + HOUR_MS, nowMs, nowMs + HOUR_MS];
      const runIds = await Promise.all(clocks.map((clockMs) => runIdsOf(startOf(requestId, clockMs))));
      expect(new Set(runIds.flat()).size).toBe(1);
    }
  });

  it('a request id is one start in any spelling of a UUID, and not across namespaces', async () => {
    const requestId = uuid({ msecs: Date.now() - 48 * HOUR_MS });
    const [first] = await runIdsOf(startOf(requestId, Date.now()));
    const upper = startOf(requestId.toUpperCase(), Date.now(), { workflowId: 'other' });
    expect(await runIdsOf(upper)).toEqual([first]);
    expect(startIdentity('a', requestId).freshRunId).not.toBe(startIdentity('b', requestId).freshRunId);
  });

  it('starts without a request id that share a workflow id are one open run, for any number in a batch', async () => {
    const input = (n: number) => ({ data: new Uint8Array([n]), encoding: 'x' });
    const commands = Array.from({ length: 300 }, (_, n) =>
      startCommand({ workflowId: 'hot', input: n === 7 ? input(1) : input(0) }),
    );
    const outcomes = await start(...commands);
    const kinds = outcomes.map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === 'started')).toHaveLength(1);
    expect(kinds.filter((kind) => kind === 'existing')).toHaveLength(298);
    expect(kinds[7]).toBe('already_exists');
  });
});
