let turn = 0;
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
    });
  }
  return turn;
}
