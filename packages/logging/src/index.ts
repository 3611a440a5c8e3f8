export { createLogger, type LoggerOptions } from './create-logger.js';
export { onEndSignals, type SignalHandlers } from './signals.js';
