export { devText, untilSignal } from './commands/serve.js';
export { type Dev, type DevOptions, defaultDataFolder, startDev } from './dev/dev.js';
