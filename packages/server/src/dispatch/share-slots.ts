/** What sharing needs of a poll. */
export interface SlotTaker {
  readonly workerId: string;
  /** Slots that it can take now. */
  readonly takes: number;
}

/**
 * Shares slots between workers: each gets an equal part, from its oldest poll on; slots that one cannot use go to the next ones.
 *
 * @param polls in order of arrival; reads only as many as it takes to find a worker for each slot
 * @returns a poll for each slot, at most `count`
 */
export function shareSlots<Poll extends SlotTaker>(polls: Iterable<Poll>, count: number): Poll[] {
  const byWorker = new Map<string, Poll[]>();
  for (const poll of polls) {
    if (byWorker.size >= count) break;
    if (poll.takes === 0) continue;
    const others = byWorker.get(poll.workerId);
    if (others === undefined) byWorker.set(poll.workerId, [poll]);
    else others.push(poll);
  }
  const taken: Poll[] = [];
  let workers = byWorker.size;
  for (const own of byWorker.values()) {
    let share = Math.ceil((count - taken.length) / workers--);
    for (const poll of own) {
      const slots = Math.min(share, poll.takes);
      share -= slots;
      for (let slot = 0; slot < slots; slot++) taken.push(poll);
    }
  }
  return taken;
}
