import { validate, version } from 'uuid';
import { describe, expect, it } from 'vitest';
import { childRunId } from '../../packages/worker-sdk/dist/execution/context/child-run-id.js';

describe('the run id of a child', () => {
  const now = new Date('2026-11-25T12:00:00.123Z');
  const parent = { runId: 'r', stepId: 's', seq: 1, attemptNumber: 1 };

  it('is a UUIDv7, and the same whenever it is asked for', () => {
    const id = childRunId(now, parent);
    expect([validate(id), version(id)]).toEqual([true, 7]);
    expect(childRunId(new Date(now), { ...parent })).toBe(id);
  });

  it('differs by run, step and attempt', () => {
    const others = [{ runId: 'q' }, { stepId: 't' }, { attemptNumber: 2 }, { seq: 2 }];
    expect(new Set([parent, ...others].map((other) => childRunId(now, { ...parent, ...other }))).size).toBe(5);
  });

  it('sorts by time, then by the order of the starts', () => {
    const ids = [1, 2, 4_095, 4_096, 70_000, 2 ** 24 - 1].map((seq) => childRunId(now, { ...parent, seq }));
    ids.push(childRunId(new Date(now.getTime() + 1), parent));
    expect([...ids].sort()).toEqual(ids);
  });
});
