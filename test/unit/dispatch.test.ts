import type { ClaimedRun } from '@perdure/store';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { claimBytes, fitAnswer } from '../../packages/server/dist/dispatch/fit-answer.js';
import { shareSlots } from '../../packages/server/dist/dispatch/share-slots.js';
import { type PollResult, WaitingPoll } from '../../packages/server/dist/dispatch/waiting-poll.js';

let nextRun = 0;
const claimOf = (inputBytes = 0, memo: readonly object[] = []): ClaimedRun => {
  const input = inputBytes === 0 ? null : { data: new Uint8Array(inputBytes), encoding: '' };
  return {
    run: { runId: `run ${nextRun++}`, input },
    leaseMs: 1,
    now: new Date(),
    memo,
    arrivals: [],
    nextMemoCursor: null,
  } as never;
};
const entry = (more: object) => ({ output: null, failure: null, heartbeat: null, ...more });

describe('sharing slots', () => {
  const takers = (...polls: [workerId: string, takes: number][]) =>
    polls.map(([workerId, takes]) => ({ workerId, takes }));
  const shared = (polls: ReturnType<typeof takers>, count: number) =>
    shareSlots(polls, count)
      .map(({ workerId }) => workerId)
      .join('');

  it('each worker gets an equal part of the slots, and slots that it cannot use go to the next ones', () => {
    expect(shared(takers(['a', 9], ['b', 9]), 4)).toBe('aabb');
    expect(shared(takers(['a', 1], ['b', 9]), 4)).toBe('abbb');
    expect(shared(takers(['a', 2], ['a', 2], ['b', 1]), 4)).toBe('aab');
    expect(shared(takers(['a', 0], ['b', 3]), 2)).toBe('bb');
    expect(shared([], 4)).toBe('');
  });

  it('sharing never gives more slots than requested, or than a poll takes', () => {
    const poll = fc.record({ workerId: fc.constantFrom('a', 'b', 'c', 'd'), takes: fc.nat(5) });
    fc.assert(
      fc.property(fc.array(poll), fc.nat(20), (polls, count) => {
        const taken = shareSlots(polls, count);
        expect(taken.length).toBeLessThanOrEqual(count);
        for (const one of polls) expect(taken.filter((other) => other === one).length).toBeLessThanOrEqual(one.takes);
      }),
    );
  });

  it('sharing reads no more polls than it takes to find a worker for each slot', () => {
    let looked = 0;
    const many = (function* () {
      for (let n = 0; n < 10_000; n++) {
        looked++;
        yield { workerId: `w${n}`, takes: 1 };
      }
    })();
    expect(shareSlots(many, 16)).toHaveLength(16);
    expect(looked).toBeLessThanOrEqual(17);
  });
});

describe('what fits into an answer', () => {
  it('an answer has at least one run, and otherwise as many as fit the limit', () => {
    const claims = [claimOf(900), claimOf(900), claimOf(900)];
    expect(fitAnswer(claims, 10).fits).toEqual(claims.slice(0, 1));
    expect(fitAnswer(claims, 2_500)).toEqual({ fits: claims.slice(0, 2), rest: claims.slice(2) });
    expect(fitAnswer(claims, 1_000_000)).toEqual({ fits: claims, rest: [] });
    expect(fitAnswer([], 10)).toEqual({ fits: [], rest: [] });
  });

  it('the size of an answer counts inputs, outputs, failures and heartbeat details', () => {
    const payload = { data: new Uint8Array(1_000), encoding: '' };
    expect(claimBytes(claimOf(1_000))).toBeGreaterThan(1_000);
    for (const part of [{ output: payload }, { heartbeat: payload }, { failure: { message: 'x'.repeat(1_000) } }]) {
      expect(claimBytes(claimOf(0, [entry(part)]))).toBeGreaterThan(1_000);
    }
  });
});

describe('a waiting poll', () => {
  const open = (maxRuns = 2) => {
    const results: PollResult[] = [];
    const poll = new WaitingPoll({ workerId: 'w', maxRuns, leaseMs: 1 }, (result) => results.push(result));
    return { poll, results };
  };

  it('a waiting poll ends with the first runs, and not while a slot is reserved', () => {
    const { poll, results } = open();
    poll.reserve();
    poll.reserve();
    expect(poll.free).toBe(0);
    const claim = claimOf();
    poll.give({ kind: 'claimed', claim });
    expect([poll.conclude(), results, poll.free]).toEqual([[], [], 0]);
    poll.give({ kind: 'empty' });
    expect(poll.conclude()).toEqual([]);
    expect([results, poll.ended]).toEqual([[{ kind: 'claimed', claims: [claim] }], true]);
  });

  it('a poll that expires before its first claim gets one claim, and ends with it', () => {
    const { poll, results } = open(5);
    poll.expire();
    expect([poll.takes, poll.free, results]).toEqual([1, 0, []]);
    poll.reserve();
    expect(poll.takes).toBe(0);
    poll.give({ kind: 'empty' });
    poll.conclude();
    expect(results).toEqual([{ kind: 'empty' }]);
  });

  it('runs that were claimed for a caller that has left go to other polls', () => {
    const { poll, results } = open();
    poll.reserve();
    poll.drop();
    const claim = claimOf();
    poll.give({ kind: 'claimed', claim });
    expect([poll.conclude(), results]).toEqual([[claim], [{ kind: 'empty' }]]);
  });

  it('runs that do not fit the answer of a poll go to other polls', () => {
    const { poll, results } = open();
    const claims = [claimOf(3 * 1024 * 1024), claimOf(3 * 1024 * 1024)];
    for (const claim of claims) {
      poll.reserve();
      poll.give({ kind: 'claimed', claim });
    }
    expect([poll.conclude(), results]).toEqual([claims.slice(1), [{ kind: 'claimed', claims: claims.slice(0, 1) }]]);
  });

  it('a waiting poll refuses moves that its state does not allow', () => {
    const { poll } = open(1);
    expect(() => poll.give({ kind: 'empty' })).toThrow(/without a reserved slot/);
    poll.reserve();
    expect(() => poll.reserve()).toThrow(/no slot to reserve/);
    expect(() => poll.accept(claimOf())).toThrow(/not idle/);
  });

  it('a waiting poll ends exactly once and loses no run, in any order of events', () => {
    const step = fc.constantFrom(
      'reserve',
      'claimed',
      'empty',
      'failed',
      'conclude',
      'expire',
      'drop',
      'release',
      'onQueueEmpty',
      'accept',
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.integer({ min: 1, max: 3 }), (steps, maxRuns) => {
        const { poll, results } = open(maxRuns);
        let underWay = 0;
        const given: ClaimedRun[] = [];
        const passedOn: ClaimedRun[] = [];
        const give = (kind: string) => {
          underWay--;
          if (kind === 'claimed') {
            given.push(claimOf());
            poll.give({ kind, claim: given.at(-1) as ClaimedRun });
          } else poll.give(kind === 'empty' ? { kind } : { kind: 'failed', error: new Error('x') });
          // A group concludes in the same turn.
          passedOn.push(...poll.conclude());
        };
        const take = (name: string) => {
          if (name === 'reserve') {
            if (poll.takes === 0) return;
            poll.reserve();
            underWay++;
          } else if (name === 'accept') {
            if (!poll.idle) return;
            given.push(claimOf());
            poll.accept(given.at(-1) as ClaimedRun);
          } else if (name === 'claimed' || name === 'empty' || name === 'failed') {
            if (underWay > 0) give(name);
          } else if (name === 'conclude') passedOn.push(...poll.conclude());
          else poll[name as 'expire' | 'drop' | 'release' | 'onQueueEmpty']();
          if (poll.ended) expect(underWay).toBe(0);
          expect(results).toHaveLength(poll.ended ? 1 : 0);
        };
        for (const name of steps) take(name);
        while (underWay > 0) give('empty');
        poll.release();
        expect(results).toHaveLength(1);
        const [result] = results;
        const handed = result?.kind === 'claimed' ? result.claims : [];
        expect([...handed, ...passedOn]).toEqual(given);
      }),
      { numRuns: 1_000 },
    );
  });
});
