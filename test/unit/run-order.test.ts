import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Coalescer } from '../../packages/server/dist/commands/coalescer.js';
import { type Kind, RunOrder } from '../../packages/server/dist/commands/run-order.js';

const kindOf = (name: string, run: (commands: readonly string[]) => Promise<readonly string[]>, maxQueued = 20_000) =>
  new Coalescer<string, string>({
    name,
    keyOf: (command) => command.split(':')[0] ?? '',
    maxQueued,
    minSecondBatch: 1,
    maxBatch: 100,
    onFault: (error) => {
      throw error;
    },
    run,
  });

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('the order of a run’s commands', () => {
  it('commands of a run keep their order over all kinds and any interleaving of runs, and each is answered once', async () => {
    const command = fc.record({
      run: fc.constantFrom('r1', 'r2', 'r3'),
      kind: fc.constantFrom(0, 1, 2),
      turns: fc.integer({ min: 0, max: 2 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(command, { maxLength: 80 }), async (items) => {
        const executed: string[] = [];
        const kinds = [0, 1, 2].map((slowness) =>
          kindOf(`kind ${slowness}`, async (commands) => {
            for (let n = 0; n < slowness; n++) await turn();
            // Fails now and then: a failure must not hold back what follows it.
            if (commands.length % 7 === 0) throw new Error('failed');
            executed.push(...commands);
            await turn();
            return commands;
          }),
        );
        const order = new RunOrder();
        const answers: Promise<unknown>[] = [];
        for (const [index, { run, kind, turns }] of items.entries()) {
          const text = `${run}:${index}`;
          answers.push(
            order.submit(run, kinds[kind] as Kind<string, string>, text).then(
              (outcome) => expect(outcome).toBe(text),
              (error) => expect(error.message).toBe('failed'),
            ),
          );
          for (let n = 0; n < turns; n++) await turn();
        }
        await Promise.all(answers);
        for (const run of ['r1', 'r2', 'r3']) {
          const numbers = executed.filter((text) => text.startsWith(run)).map((text) => Number(text.slice(3)));
          expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
        }
        expect(order.size).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('a full queue refuses commands at once, and each of 9,000 commands of one run is answered once', async () => {
    let release: () => void = () => undefined;
    const first = kindOf('First', async (commands) => {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      return commands;
    });
    const second = kindOf('Second', async (commands) => commands, 100);
    const order = new RunOrder();
    const head = order.submit('r', first, 'r:head');
    await turn();
    const answers = Array.from({ length: 9_000 }, (_, index) => order.submit('r', second, `r:${index}`));
    const settled = Promise.allSettled(answers);
    release();
    expect(await head).toBe('r:head');
    const outcomes = await settled;
    expect(outcomes.slice(0, 100).every(({ status }) => status === 'fulfilled')).toBe(true);
    expect(outcomes.slice(100).every(({ status }) => status === 'rejected')).toBe(true);
    expect(order.size).toBe(0);
  });

  it('20,000 waiting commands that get their outcome when they are queued do not overflow the stack', async () => {
    const order = new RunOrder();
    const atOnce = (fails: boolean): Kind<string, string> => ({
      refusal: new Coalescer<string, string>({
        name: '',
        keyOf: String,
        maxQueued: 1,
        onFault: () => undefined,
        run: async () => [],
      }).refusal,
      admit: (command, onOutcome, onError) => ({ command, bytes: 0, onOutcome, onError }),
      enqueue: ({ command, onOutcome, onError }) => (fails ? onError(new Error(command)) : onOutcome(command)),
    });
    let release: () => void = () => undefined;
    const head = kindOf('Head', async (commands) => {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      return commands;
    });
    const first = order.submit('r', head, 'r:head');
    await turn();
    const kinds = [atOnce(true), atOnce(false)] as const;
    const calls = Array.from({ length: 20_000 }, (_, index) =>
      order.submit('r', kinds[(index >> 3) % 2] as Kind<string, string>, String(index)),
    );
    const settled = Promise.allSettled(calls);
    release();
    await first;
    const outcomes = await settled;
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(10_000);
    expect(order.size).toBe(0);
  });
});
