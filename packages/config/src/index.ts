export { databaseOptions, logOptions } from './common-options.js';
export { describeOptions } from './describe.js';
export { parseDuration } from './duration.js';
export { addOptionsTo, flagValues } from './flags.js';
export { ConfigError, type ConfigSources, loadConfig } from './load.js';
export {
  type BooleanOption,
  type ConfigOf,
  type DurationOption,
  defineOptions,
  type EnumOption,
  type IntegerOption,
  type Option,
  type Options,
  type StringOption,
} from './options.js';
