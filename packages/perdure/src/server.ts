/** The parts as functions, for a process of your own that runs them; `perdure server` and `perdure reaper` are the same. */
export { ConfigError, type ConfigSources, loadConfig } from '@perdure/config';
export { type Reaper, type ReaperConfig, reaperOptions, reaperRelations, startReaper } from '@perdure/reaper';
export {
  PortTakenError,
  type Server,
  type ServerConfig,
  type StartServerOptions,
  serverOptions,
  serverRelations,
  startServer,
} from '@perdure/server';
export {
  DatabaseNotReadyError,
  type DatabaseProblem,
  LATEST_SCHEMA_VERSION,
  type MigrateOptions,
  type MigrateResult,
  migrate,
} from '@perdure/store';
