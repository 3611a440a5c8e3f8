export { type ReaperConfig, reaperOptions, reaperRelations } from './config.js';
export { type Reaper, startReaper } from './reaper.js';
