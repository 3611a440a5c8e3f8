let turn = 0;
let nowMs: number | undefined;
let armed = false;

/**
 * A number that is the same for everything that happens in one turn of the event loop, and another in the next. Costs one
 * callback per turn, however many ask.
 */
export function eventLoopTurn(): number {
  if (!armed) {
    armed = true;
    setImmediate(() => {
      armed = false;
      turn++;
      nowMs = undefined;
    });
  }
  return turn;
}

/** The monotonic clock, read once per turn: reading it costs more than most of what is timed by it. */
export function turnNowMs(): number {
  eventLoopTurn();
  nowMs ??= performance.now();
  return nowMs;
}
