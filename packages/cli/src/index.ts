export { devText } from './commands/dev.js';
export { type Dev, type DevOptions, defaultDataFolder, startDev } from './dev/dev.js';
export { untilSignal } from './dev/until-signal.js';
export { CliError } from './exit-codes.js';
