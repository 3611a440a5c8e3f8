// What every peer's script does: as many runs as it can in a while, with so many under way, then some alone; one line of JSON.
// All get the same time, and the same load to warm up.
export const [steps, inFlight, seconds] = process.argv.slice(2).map(Number);
const [parents = 0, children = 0] = process.argv.slice(5).map(Number);

const WARM_UP_S = 1.5;
const ALONE_S = 2;

/**
 * Runs `work` in so many lanes, without a break between warm-up and measurement: lanes that began together would end together,
 * and a system whose runs take long would lose those that were not quite done.
 *
 * @returns how long each took that ended after the warm-up, sorted, in ms
 */
async function lanes(width, warmUpS, forS, work) {
  const fromMs = performance.now() + warmUpS * 1000;
  const untilMs = fromMs + forS * 1000;
  const times = [];
  const lane = async () => {
    while (performance.now() < untilMs) {
      const beganMs = performance.now();
      await work();
      const endedMs = performance.now();
      if (endedMs >= fromMs && endedMs < untilMs) times.push(endedMs - beganMs);
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  return times.sort((a, b) => a - b);
}

/** @param one starts one run and waits for its result */
export async function measure(one) {
  const { length: count } = await lanes(inFlight, WARM_UP_S, seconds, one);
  const alone = await lanes(1, 0, ALONE_S, one);
  console.log(
    JSON.stringify({
      runsPerSecond: count / seconds,
      stepsPerSecond: (count * steps) / seconds,
      msPerStep: alone[alone.length >> 1] / steps,
    }),
  );
}

/**
 * Instead of {@link measure} when the script is called with numbers of parents and children.
 *
 * @param parent starts one run with so many children of one step, and waits until it has all of their results
 * @returns whether it was
 */
export async function measureFanout(parent) {
  if (parents === 0) return false;
  await Promise.all(Array.from({ length: 10 }, () => parent(20)));
  const beganMs = performance.now();
  await Promise.all(Array.from({ length: parents }, () => parent(children)));
  console.log(JSON.stringify({ childrenPerSecond: (parents * children * 1000) / (performance.now() - beganMs) }));
  return true;
}
