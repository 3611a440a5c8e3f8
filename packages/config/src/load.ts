import { formatDuration, parseDuration } from './duration.js';
import type { ConfigOf, Option, Options } from './options.js';

/** One or more options are invalid; the message lists every one. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  /** One sentence for each option that cannot be used. */
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`The configuration is invalid:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`);
    this.problems = problems;
  }
}

/** Where the values of options come from. */
export interface ConfigSources {
  /** Environment variables, for example `process.env`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Values from the command line by option name; they win over the environment. */
  readonly flags?: Readonly<Record<string, unknown>>;
  /** Checks relations between options; each string is a problem. */
  readonly relations?: (config: Readonly<Record<string, unknown>>) => readonly string[];
}

/**
 * Reads, validates and freezes the options of a process.
 *
 * @returns every option with its value: flag, else environment variable, else default
 * @throws {ConfigError} names each option that is missing, malformed or out of range, with the value that came and what is expected
 */
export function loadConfig<O extends Options>(options: O, sources: ConfigSources): ConfigOf<O> {
  const problems: string[] = [];
  const config: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(options)) {
    const given = sources.flags?.[name] ?? sources.env[option.env];
    const result = given === undefined || given === '' ? defaultOf(option) : read(option, given);
    if (result.problem !== undefined) problems.push(`--${option.flag} (${option.env}): ${result.problem}`);
    else config[name] = result.value;
  }
  if (problems.length === 0) problems.push(...(sources.relations?.(config) ?? []));
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze(config) as ConfigOf<O>;
}

type Reading = { readonly value: unknown; readonly problem?: undefined } | { readonly problem: string };

function defaultOf(option: Option): Reading {
  if (option.default === undefined) return { problem: `must be given. ${option.description}` };
  return { value: option.default };
}

function read(option: Option, given: unknown): Reading {
  const text = String(given);
  const shown = option.secret === true ? 'the value given' : JSON.stringify(text);
  switch (option.kind) {
    case 'string':
      return { value: text };
    case 'boolean': {
      if (/^(true|1|yes|on)$/i.test(text)) return { value: true };
      if (/^(false|0|no|off)$/i.test(text)) return { value: false };
      return { problem: `must be true or false; got ${shown}.` };
    }
    case 'enum':
      return option.values.includes(text)
        ? { value: text }
        : { problem: `expected one of: ${option.values.join(', ')}; got ${shown}.` };
    case 'integer': {
      const value = Number(text);
      if (!Number.isInteger(value)) return { problem: `must be a whole number (${option.unit}); got ${shown}.` };
      return inRange(option, value, shown, String);
    }
    case 'duration': {
      const value = parseDuration(text);
      if (value === undefined)
        return { problem: `must be a duration, for example 500ms, 30s, 5m or 2h; got ${shown}.` };
      return inRange(option, value, shown, formatDuration);
    }
  }
}

function inRange(
  option: { readonly min: number; readonly max: number },
  value: number,
  shown: string,
  format: (value: number) => string,
): Reading {
  if (value >= option.min && value <= option.max) return { value };
  return { problem: `must be between ${format(option.min)} and ${format(option.max)}; got ${shown}.` };
}
