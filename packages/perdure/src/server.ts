/** The parts as functions, for a process of your own that runs them; `perdure server` and `perdure reaper` are the same. */
export { ConfigError, type ConfigSources, loadConfig } from '@perdure/config';
export { type Reaper, type ReaperConfig, reaperOptions, reaperRelations, startReaper } from '@perdure/reaper';
export { type Server, type ServerConfig, serverOptions, serverRelations, startServer } from '@perdure/server';
export { LATEST_SCHEMA_VERSION, type MigrateOptions, type MigrateResult, migrate } from '@perdure/store';
