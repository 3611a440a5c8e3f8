/** Server, reaper and an embedded PostgreSQL inside one process: for development and tests. */
export { CliError, type Dev, type DevOptions, defaultDataFolder, devText, startDev, untilSignal } from '@perdure/cli';
