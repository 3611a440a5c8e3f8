import { type ConfigError, describeOptions, loadConfig, parseDuration } from '@perdure/config';
import { serverOptions, serverRelations } from '@perdure/server';
import { DataError } from '@perdure/store';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Coalescer } from '../../packages/server/dist/commands/coalescer.js';
import { Checker } from '../../packages/server/dist/rpc/decode/checker.js';
import { decodePageToken, encodePageToken } from '../../packages/server/dist/rpc/decode/page-token.js';

describe('coalescer', () => {
  const gated = (maxInFlight = 2, maxBatch = 500) => {
    const batches: string[][] = [];
    const release: (() => void)[] = [];
    const coalescer = new Coalescer<string, string>({
      name: 'test',
      keyOf: (command) => command.split(':')[0] ?? '',
      maxQueued: 1_000,
      maxInFlight,
      maxBatch,
      worthABatch: 1,
      run: async (commands) => {
        batches.push([...commands]);
        await new Promise<void>((resolve) => release.push(resolve));
        return commands.map((command) => `done ${command}`);
      },
    });
    return {
      batches,
      coalescer,
      releaseAll: () => {
        for (const go of release.splice(0)) go();
      },
    };
  };
  const settle = async () => {
    for (let n = 0; n < 5; n++) await new Promise((resolve) => setImmediate(resolve));
  };

  it('gathers while batches are under way, and never two commands of a key at once', async () => {
    const { batches, coalescer, releaseAll } = gated();
    const first = coalescer.submit('a:1');
    await settle();
    const results = ['b:1', 'a:2', 'c:1'].map((command) => coalescer.submit(command));
    await settle();
    // a:2 waits for a:1; the others need not.
    expect(batches).toEqual([['a:1'], ['b:1', 'c:1']]);
    for (let n = 0; n < 5; n++) {
      releaseAll();
      await settle();
    }
    expect(await Promise.all([first, ...results])).toEqual(['done a:1', 'done b:1', 'done a:2', 'done c:1']);
    expect(batches[2]).toEqual(['a:2']);
  });

  it('keeps the order of commands with one key over any interleaving', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 60 }),
        fc.integer({ min: 1, max: 3 }),
        async (keys, maxInFlight) => {
          const executed: string[] = [];
          let underWay: string[] = [];
          const coalescer = new Coalescer<string, number>({
            name: 'test',
            keyOf: (command) => command[0] ?? '',
            maxQueued: 1_000,
            maxInFlight,
            maxBatch: 4,
            worthABatch: 1,
            run: async (commands) => {
              const mine = new Set(commands.map((command) => command[0]));
              expect(underWay.some((key) => mine.has(key))).toBe(false);
              underWay = [...underWay, ...(mine as Set<string>)];
              await new Promise((resolve) => setImmediate(resolve));
              executed.push(...commands);
              underWay = underWay.filter((key) => !mine.has(key));
              return commands.map(() => 0);
            },
          });
          await Promise.all(keys.map((key, index) => coalescer.submit(`${key}${index}`)));
          for (const key of ['a', 'b', 'c']) {
            const numbers = executed
              .filter((command) => command.startsWith(key))
              .map((command) => Number(command.slice(1)));
            expect(numbers).toEqual([...numbers].sort((x, y) => x - y));
          }
          expect(executed).toHaveLength(keys.length);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('a command that the database refuses fails alone', async () => {
    const coalescer = new Coalescer<string, string>({
      name: 'test',
      keyOf: (command) => command,
      maxQueued: 100,
      run: async (commands) => {
        if (commands.includes('bad')) throw new DataError('no');
        return commands.map((command) => command.toUpperCase());
      },
    });
    const outcomes = await Promise.allSettled(['a', 'b', 'bad', 'c', 'd'].map((command) => coalescer.submit(command)));
    expect(outcomes.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value : 'refused'))).toEqual([
      'A',
      'B',
      'refused',
      'C',
      'D',
    ]);
  });

  it('refuses what would queue beyond its limit', async () => {
    const coalescer = new Coalescer<string, string>({
      name: 'Test',
      keyOf: () => 'k',
      maxQueued: 2,
      run: () => new Promise(() => undefined),
    });
    void coalescer.submit('1');
    void coalescer.submit('2');
    await expect(coalescer.submit('3')).rejects.toThrow(/too much to do/);
  });
});

describe('page tokens', () => {
  it('come back as they were, and any other text is refused', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (cursor, garbage) => {
        const check = new Checker(1_000);
        const parse = (value: unknown) => (typeof value === 'string' ? value : undefined);
        expect(decodePageToken(check, 'page_token', encodePageToken(['s'], cursor), ['s'], parse)).toBe(cursor);
        check.done();
        if (garbage === '') return;
        decodePageToken(check, 'page_token', garbage, ['s'], parse);
        expect(() => check.done()).toThrow(/page_token/);
      }),
    );
  });
});

describe('configuration', () => {
  const env = { DATABASE_URL: 'postgres://x:secret@y/z' };

  it('takes flags over environment over defaults, and freezes the result', () => {
    const config = loadConfig(serverOptions, {
      env: { ...env, PERDURE_GRPC_PORT: '1', PERDURE_DRAIN: '5s' },
      flags: { grpcPort: '2' },
    });
    expect(config).toMatchObject({ grpcPort: 2, httpPort: 7301, drainMs: 5_000, host: '127.0.0.1' });
    expect(Object.isFrozen(config)).toBe(true);
  });

  it('names every problem, the range and what came, but no secret', () => {
    const problems = (() => {
      try {
        loadConfig(serverOptions, { env: { PERDURE_GRPC_PORT: '70000', PERDURE_DRAIN: 'soon', PERDURE_WAKEUP: 'x' } });
      } catch (error) {
        return (error as ConfigError).problems;
      }
      return [];
    })();
    expect(problems).toHaveLength(4);
    expect(problems.join(' ')).toContain('0 to 65535');
    expect(() =>
      loadConfig(serverOptions, { env: { ...env, PERDURE_MAX_PAYLOAD_BYTES: '4194304' }, relations: serverRelations }),
    ).toThrow(/max-frame-bytes/);
    expect(String(problems)).not.toContain('secret');
  });

  it('durations have units', () => {
    expect(['5', '5ms', '1.5s', '2m', '1h', '1d'].map(parseDuration)).toEqual([
      5, 5, 1_500, 120_000, 3_600_000, 86_400_000,
    ]);
    expect(['', 'x', '-1s', '1 week'].map(parseDuration)).toEqual([undefined, undefined, undefined, undefined]);
  });

  it('describes every option with unit, default and range', () => {
    const table = describeOptions(serverOptions);
    for (const { flag } of Object.values(serverOptions)) expect(table).toContain(`--${flag}`);
  });
});
