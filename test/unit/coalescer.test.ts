import { DataError } from '@perdure/store';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Coalescer, type CoalescerOptions } from '../../packages/server/dist/commands/coalescer.js';
import { ManualClock } from '../support/manual-clock.js';

type Options = Partial<CoalescerOptions<string, string>>;

const coalescerOf = (options: Options & Pick<CoalescerOptions<string, string>, 'run'>) => {
  const faults: unknown[] = [];
  const coalescer = new Coalescer<string, string>({
    name: 'Test',
    keyOf: (command) => command.split(':')[0] ?? '',
    maxQueued: 1_000,
    minSecondBatch: 1,
    onFault: (error) => faults.push(error),
    ...options,
  });
  return { coalescer, faults };
};

/** Batches end when the test says so. */
const gated = (options: Options = {}) => {
  const batches: string[][] = [];
  const release: (() => void)[] = [];
  const made = coalescerOf({
    run: async (commands) => {
      batches.push([...commands]);
      await new Promise<void>((resolve) => release.push(resolve));
      return commands.map((command) => `done ${command}`);
    },
    ...options,
  });
  const releaseAll = async () => {
    for (let n = 0; n < 20; n++) {
      for (const go of release.splice(0)) go();
      await settle();
    }
  };
  return { ...made, batches, releaseAll };
};

async function settle(): Promise<void> {
  for (let n = 0; n < 5; n++) await new Promise((resolve) => setImmediate(resolve));
}

const texts = (outcomes: readonly PromiseSettledResult<string>[]) =>
  outcomes.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value : 'refused'));

describe('coalescer', () => {
  it('commands are collected while batches are in flight, and no two batches have one key at once', async () => {
    const { batches, coalescer, releaseAll } = gated();
    const first = coalescer.submit('a:1');
    await settle();
    const results = ['b:1', 'a:2', 'c:1'].map((command) => coalescer.submit(command));
    await settle();
    // a:2 waits for a:1; the others need not.
    expect(batches).toEqual([['a:1'], ['b:1', 'c:1']]);
    await releaseAll();
    expect(await Promise.all([first, ...results])).toEqual(['done a:1', 'done b:1', 'done a:2', 'done c:1']);
    expect(batches[2]).toEqual(['a:2']);
  });

  it('lets few commands wait for a batch under way, but not for one that hangs', async () => {
    const clock = new ManualClock();
    const { coalescer, batches, releaseAll } = gated({ minSecondBatch: 10, clock });
    const outcomes = [coalescer.submit('a')];
    await settle();
    outcomes.push(coalescer.submit('b'));
    clock.stall(50);
    outcomes.push(coalescer.submit('c'));
    await settle();
    expect(batches).toEqual([['a']]);
    clock.stall(1);
    outcomes.push(coalescer.submit('d'));
    await settle();
    expect(batches).toEqual([['a'], ['b', 'c', 'd']]);
    await releaseAll();
    await Promise.all(outcomes);
  });

  it('keeps the order of commands with one key over any sizes and interleaving, and answers each once', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.integer({ min: 0, max: 9 })), { maxLength: 60 }),
        fc.integer({ min: 1, max: 3 }),
        async (items, maxInFlight) => {
          const sizeOf = (command: string) => Number(command.split('/')[1]);
          const executed: string[] = [];
          let underWay: string[] = [];
          const { coalescer, faults } = coalescerOf({
            maxInFlight,
            maxBatch: 4,
            maxBatchBytes: 10,
            bytesOf: sizeOf,
            run: async (commands) => {
              const mine = new Set(commands.map((command) => command.split(':')[0] ?? ''));
              expect(underWay.some((key) => mine.has(key))).toBe(false);
              expect(commands.reduce((sum, command) => sum + sizeOf(command), 0)).toBeLessThanOrEqual(10);
              underWay = [...underWay, ...mine];
              await new Promise((resolve) => setImmediate(resolve));
              executed.push(...commands);
              underWay = underWay.filter((key) => !mine.has(key));
              return [...commands];
            },
          });
          const commands = items.map(([key, size], index) => `${key}:${index}/${size}`);
          expect(await Promise.all(commands.map((command) => coalescer.submit(command)))).toEqual(commands);
          for (const key of ['a', 'b', 'c']) {
            const mine = (command: string) => command.startsWith(key);
            expect(executed.filter(mine)).toEqual(commands.filter(mine));
          }
          expect(executed).toHaveLength(items.length);
          expect(faults).toEqual([]);
        },
      ),
      { numRuns: 50 },
    );
  });

  for (const [what, error] of [
    ['the database refuses', new DataError('no')],
    ['is too large for one statement', new RangeError('Invalid string length')],
  ] as const) {
    it(`a command that ${what} fails alone`, async () => {
      const { coalescer } = coalescerOf({
        run: async (commands) => {
          if (commands.includes('bad')) throw error;
          return commands.map((command) => command.toUpperCase());
        },
      });
      const commands = ['a', 'b', 'bad', 'c', 'd'];
      const outcomes = await Promise.allSettled(commands.map((command) => coalescer.submit(command)));
      expect(texts(outcomes)).toEqual(['A', 'B', 'refused', 'C', 'D']);
    });
  }

  it('commands beyond the limit are refused with one shared error, which has no stack', async () => {
    const { coalescer, releaseAll } = gated({ maxQueued: 2, maxInFlight: 0 });
    void coalescer.submit('1');
    void coalescer.submit('2');
    const refusals = await Promise.all(
      [coalescer.submit('3'), coalescer.submit('4')].map((call) => call.catch((e) => e)),
    );
    expect(refusals[0]).toBe(refusals[1]);
    expect(refusals[0]).toMatchObject({
      message: expect.stringMatching(/overloaded: its queue of Test commands is full/),
    });
    expect((refusals[0] as Error).stack).not.toContain('\n    at ');
    await releaseAll();
  });

  it('commands beyond the limit of bytes are refused until earlier ones have their outcome', async () => {
    const { coalescer, batches, releaseAll } = gated({ maxQueuedBytes: 100, bytesOf: (command) => Number(command) });
    const first = coalescer.submit('60');
    await expect(coalescer.submit('50')).rejects.toThrow(/overloaded/);
    const second = coalescer.submit('40');
    await settle();
    expect(batches).toEqual([['60', '40']]);
    await expect(coalescer.submit('1')).rejects.toThrow(/overloaded/);
    await releaseAll();
    await Promise.all([first, second]);
    const large = coalescer.submit('1000');
    await releaseAll();
    expect(await large).toBe('done 1000');
  });

  it('a large command that does not fit a batch lets small ones pass and is in the next batch', async () => {
    const { coalescer, batches, releaseAll } = gated({
      maxInFlight: 1,
      maxBatchBytes: 10,
      bytesOf: (command) => Number(command.split(':')[1]),
    });
    const results = ['a:8', 'b:8', 'c:1', 'b:1'].map((command) => coalescer.submit(command));
    await releaseAll();
    await Promise.all(results);
    // b:1 stays behind b:8, which has its key.
    expect(batches).toEqual([
      ['a:8', 'c:1'],
      ['b:8', 'b:1'],
    ]);
  });

  it('all commands of a set are admitted or none', async () => {
    const { coalescer, batches, releaseAll } = gated({ maxQueued: 3, maxInFlight: 1 });
    const running = coalescer.submit('a');
    await settle();
    const waiting = coalescer.submit('b');
    expect(() => coalescer.submitAll(['c', 'd', 'e'])).toThrow(/overloaded/);
    const set = coalescer.submitAll(['c', 'd']);
    await releaseAll();
    expect(await Promise.all([running, waiting, ...set])).toEqual(['done a', 'done b', 'done c', 'done d']);
    expect(batches.flat()).toEqual(['a', 'b', 'c', 'd']);
    const larger = coalescer.submitAll(['1', '2', '3', '4']);
    await releaseAll();
    expect(await Promise.all(larger)).toHaveLength(4);
  });

  it('an exception of one callback is reported, and every command of the batch gets its outcome once', async () => {
    const { coalescer, faults } = coalescerOf({ run: async (commands) => [...commands] });
    const told: string[] = [];
    for (const command of ['a', 'b', 'c']) {
      const admitted = coalescer.admit(
        command,
        (outcome) => {
          told.push(outcome);
          if (outcome === 'b') throw new Error('thrown by a callback');
        },
        (error) => told.push(String(error)),
      );
      if (admitted !== undefined) coalescer.enqueue(admitted);
    }
    expect(await coalescer.submit('d')).toBe('d');
    expect(told).toEqual(['a', 'b', 'c']);
    expect(faults).toMatchObject([{ message: 'thrown by a callback' }]);
    expect(await coalescer.submit('e')).toBe('e');
  });

  it('a command that gets no outcome from its batch fails instead of waiting forever', async () => {
    const { coalescer } = coalescerOf({ run: async (commands) => commands.slice(1) });
    const outcomes = await Promise.allSettled(['a', 'b'].map((command) => coalescer.submit(command)));
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
  });
});
