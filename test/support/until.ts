import { setTimeout as delay } from 'node:timers/promises';

/** Looks again and again until there is something, for up to `patienceMs`. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  patienceMs = 30_000,
): Promise<T> {
  const untilMs = performance.now() + patienceMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > untilMs) throw new Error(`Waited ${patienceMs} ms, but this did not happen: ${what}`);
    await delay(10);
  }
}
