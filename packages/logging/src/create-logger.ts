import { createRequire } from 'node:module';
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino';

export interface LoggerOptions {
  /** The part of Perdure that logs, for example `perdure-server`. */
  readonly name?: string;
  /** Least severe level to write: `trace`, `debug`, `info`, `warn`, `error` or `silent`. */
  readonly level: string;
  /** Append to this file, readable by its owner alone; default: standard output. */
  readonly file?: string;
}

/**
 * Writes JSON lines with level names and ISO times, so that a log can be read without a table of numbers. On a terminal
 * the lines are laid out for people when the optional package pino-pretty is installed.
 */
export function createLogger({ name, level, file }: LoggerOptions): Logger {
  const options = {
    ...(name === undefined ? {} : { name }),
    level,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  if (file !== undefined) return pino(options, destination({ dest: file, sync: false, mkdir: true, mode: 0o600 }));
  const pretty = process.stdout.isTTY ? prettyStream() : undefined;
  return pretty === undefined ? pino(options) : pino(options, pretty);
}

interface PrettyOptions {
  readonly sync: boolean;
  readonly singleLine: boolean;
  readonly translateTime: string;
  readonly ignore: string;
  readonly messageFormat: (line: Readonly<Record<string, unknown>>) => string;
}

/** @returns undefined when pino-pretty is not installed, or was left out of a bundle */
function prettyStream(): DestinationStream | undefined {
  try {
    const require = createRequire(import.meta.url);
    const pretty = require('pino-pretty') as (options: PrettyOptions) => DestinationStream;
    return pretty({
      sync: true,
      singleLine: true,
      translateTime: "UTC:yyyy-mm-dd'T'HH:MM:ss.l'Z'",
      ignore: 'pid,hostname,event,message',
      // Lines carry an `event` and fields, and sometimes a text.
      messageFormat: ({ event, message, msg }) =>
        [event, message, msg].filter((part) => typeof part === 'string' && part !== '').join(' '),
    });
  } catch {
    return undefined;
  }
}
