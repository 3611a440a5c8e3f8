import { EXIT } from '../exit-codes.js';

/**
 * npm and tsx pass on a Ctrl-C that the terminal has delivered already: within this time of the first signal, a second one
 * is the same.
 */
const SAME_SIGNAL_MS = 500;

/** Resolves with the first SIGINT or SIGTERM; a second one ends the process at once. */
export function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    let firstMs: number | undefined;
    const onSignal = () => {
      const nowMs = performance.now();
      firstMs ??= nowMs;
      if (nowMs - firstMs > SAME_SIGNAL_MS) process.exit(EXIT.interrupted);
      resolve();
    };
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
  });
}
