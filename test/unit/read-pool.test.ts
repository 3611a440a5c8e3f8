import { type Reader, StatementTimeoutError } from '@perdure/store';
import { describe, expect, it } from 'vitest';
import { CallState } from '../../packages/server/dist/call/handlers.js';
import { ReadPool } from '../../packages/server/dist/reads/read-pool.js';

/** A database whose statements are answered when the test says so. */
function gatedPool(options: { maxReads: number; maxQueued: number }) {
  const begun: string[] = [];
  const settle = new Map<string, { resolve: () => void; reject: (error: Error) => void }>();
  const db = {
    query: ({ name }: { name: string }) =>
      new Promise((resolve, reject) => {
        begun.push(name);
        settle.set(name, { resolve: () => resolve([]), reject });
      }),
  } as unknown as Reader;
  const pool = new ReadPool({ ...options, db: db as never });
  const read = (name: string, call = new CallState()) => pool.for(call).query({ name, text: name }, []);
  return { pool, begun, read, settle };
}

describe('read pool', () => {
  it('the read pool begins as many reads as it has connections, the others in the order of their arrival', async () => {
    const { begun, read, settle } = gatedPool({ maxReads: 2, maxQueued: 10 });
    const reads = ['a', 'b', 'c', 'd'].map((name) => read(name));
    expect(begun).toEqual(['a', 'b']);
    settle.get('b')?.resolve();
    await reads[1];
    expect(begun).toEqual(['a', 'b', 'c']);
    settle.get('a')?.reject(new Error('broken'));
    await expect(reads[0]).rejects.toThrow('broken');
    expect(begun).toEqual(['a', 'b', 'c', 'd']);
  });

  it('the read pool does not read for callers that have left, and gives their places to others', async () => {
    const { pool, begun, read, settle } = gatedPool({ maxReads: 1, maxQueued: 2 });
    const first = read('a');
    const leaving = [new CallState(), new CallState()];
    const left = leaving.map((call, n) => read(`left ${n}`, call).catch((error: Error) => error.message));
    await expect(read('refused')).rejects.toMatchObject({ retryAfterMs: 250 });
    for (const call of leaving) call.abort();
    const next = read('b');
    expect(pool.queued).toBe(1);
    settle.get('a')?.resolve();
    await first;
    expect(begun).toEqual(['a', 'b']);
    settle.get('b')?.resolve();
    await next;
    await Promise.all(left);
    expect(begun).toEqual(['a', 'b']);
  });

  it('a read that PostgreSQL ends at its timeout fails with the advice to request less', async () => {
    const { read, settle } = gatedPool({ maxReads: 1, maxQueued: 1 });
    const slow = read('a');
    settle.get('a')?.reject(new StatementTimeoutError('too long'));
    await expect(slow).rejects.toThrow(/takes too long to read/);
  });
});
