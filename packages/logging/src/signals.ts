/**
 * npm and tsx pass on a Ctrl-C that the terminal has delivered already: within this time of the first signal, in ms, another
 * one is the same.
 */
const SAME_SIGNAL_MS = 500;

export interface SignalHandlers {
  readonly onFirst: (signal: NodeJS.Signals) => void;
  /** Called for every signal that comes more than 500 ms after the first. */
  readonly onAgain: (signal: NodeJS.Signals) => void;
}

/**
 * Listens for SIGINT and SIGTERM, the requests to end this process.
 *
 * @returns stops listening
 */
export function onEndSignals({ onFirst, onAgain }: SignalHandlers): () => void {
  let firstMs: number | undefined;
  const onSignal = (signal: NodeJS.Signals) => {
    const nowMs = performance.now();
    if (firstMs === undefined) {
      firstMs = nowMs;
      onFirst(signal);
    } else if (nowMs - firstMs > SAME_SIGNAL_MS) onAgain(signal);
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return () => {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  };
}
