import type { Command } from 'commander';
import { formatDuration } from './duration.js';
import type { Option, Options } from './options.js';

/** Registers every option as a flag whose help gives default, range and environment variable. */
export function addOptionsTo(command: Command, options: Options): Command {
  for (const option of Object.values(options)) {
    const flag =
      option.kind === 'boolean' ? `--${option.flag} <true|false>` : `--${option.flag} <${placeholder(option)}>`;
    command.option(flag, `${option.description} (${facts(option).join('; ')})`);
  }
  return command;
}

/** The flags that commander parsed, by option name; flags that were not given are absent. */
export function flagValues(options: Options, parsed: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(options)) {
    const value = parsed[option.flag.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())];
    if (value !== undefined) values[name] = value;
  }
  return values;
}

function placeholder(option: Option): string {
  switch (option.kind) {
    case 'integer':
      return option.unit;
    case 'enum':
      return option.values.join('|');
    default:
      return option.kind;
  }
}

function facts(option: Option): string[] {
  const facts: string[] = [];
  if (option.default !== undefined && option.default !== '') {
    facts.push(`default ${option.kind === 'duration' ? formatDuration(option.default) : option.default}`);
  }
  if (option.kind === 'integer') facts.push(`${option.min} to ${option.max}`);
  if (option.kind === 'duration') facts.push(`${formatDuration(option.min)} to ${formatDuration(option.max)}`);
  facts.push(`env ${option.env}`);
  return facts;
}
