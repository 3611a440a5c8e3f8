// What every peer's script does: so many runs with so many under way, then some alone; one line of JSON.
export const [count, steps, inFlight] = process.argv.slice(2).map(Number);

async function lanes(total, width, work, maxMs = Number.POSITIVE_INFINITY) {
  const untilMs = performance.now() + maxMs;
  let next = 0;
  const times = [];
  const lane = async () => {
    while (next < total && performance.now() < untilMs) {
      next++;
      const beganMs = performance.now();
      await work();
      times.push(performance.now() - beganMs);
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  return times.sort((a, b) => a - b);
}

/** @param one starts one run and waits for its result */
export async function measure(one) {
  await lanes(Math.min(100, count), Math.min(20, inFlight), one);
  const beganMs = performance.now();
  await lanes(count, inFlight, one);
  const seconds = (performance.now() - beganMs) / 1000;
  const alone = await lanes(60, 1, one, 5_000);
  console.log(
    JSON.stringify({
      runsPerSecond: count / seconds,
      stepsPerSecond: (count * steps) / seconds,
      msPerStep: alone[alone.length >> 1] / steps,
    }),
  );
}
