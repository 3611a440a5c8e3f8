import type { ClaimedRun, ClaimSlot, KeeperSlots } from '@perdure/store';

/** A free slot of one worker for each run, and the claims that came of them. */
export interface OfferedSlots extends KeeperSlots {
  readonly claims: ClaimedRun[];
  /** Times that slots were reserved and not given back. */
  readonly open: number;
}

export function offerSlots(workerId: string): OfferedSlots {
  const state = { claims: [] as ClaimedRun[], open: 0 };
  return {
    get claims() {
      return state.claims;
    },
    get open() {
      return state.open;
    },
    reserve(runIds) {
      const slots = runIds.map((runId, index): ClaimSlot | null =>
        runIds.indexOf(runId) === index ? { workerId } : null,
      );
      state.open++;
      return {
        slots,
        settle(claims) {
          state.open--;
          state.claims.push(...claims.filter((claim) => claim !== null));
        },
      };
    },
  };
}
