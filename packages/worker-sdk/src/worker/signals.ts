import type { Logger } from 'pino';

export interface SignalHandlers {
  readonly onFirst: () => void;
  /** Also called for every further one. */
  readonly onSecond: () => void;
}

/** Hears of SIGTERM and SIGINT. @returns ends that */
export function handleSignals(log: Logger, { onFirst, onSecond }: SignalHandlers): () => void {
  let isFirst = true;
  const onSignal = (signal: NodeJS.Signals) => {
    log.info({ event: 'signal_received', signal });
    if (isFirst) onFirst();
    else onSecond();
    isFirst = false;
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  return () => {
    process.off('SIGTERM', onSignal);
    process.off('SIGINT', onSignal);
  };
}
