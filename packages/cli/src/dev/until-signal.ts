import { onEndSignals } from '@perdure/logging';
import { EXIT } from '../exit-codes.js';

/** Resolves with the first SIGINT or SIGTERM; another one, more than 500 ms later, ends the process at once. */
export function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    onEndSignals({ onFirst: () => resolve(), onAgain: () => process.exit(EXIT.interrupted) });
  });
}
