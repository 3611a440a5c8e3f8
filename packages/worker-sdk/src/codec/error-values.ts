import { builtInError } from './built-in-errors.js';

/** Errors inside values; those that end a step or a run are sent as `Failure` messages. */
interface ErrorValue {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly code?: unknown;
  readonly cause?: unknown;
  /** Of an AggregateError. */
  readonly errors?: readonly unknown[];
}

export const errorReducers: Record<string, (value: unknown) => unknown> = {
  Buffer: (value) => Buffer.isBuffer(value) && new Uint8Array(value),
  Error: (value) => {
    if (!(value instanceof Error)) return false;
    const { name, message, stack, cause } = value;
    const { code } = value as { code?: unknown };
    const reduced: ErrorValue = {
      name,
      message,
      ...(stack === undefined ? {} : { stack }),
      ...(typeof code === 'string' || typeof code === 'number' ? { code } : {}),
      ...(cause === undefined ? {} : { cause }),
      ...(value instanceof AggregateError ? { errors: value.errors } : {}),
    };
    return reduced;
  },
};

export const errorRevivers: Record<string, (value: unknown) => unknown> = {
  Buffer: (value) => Buffer.from(value as Uint8Array),
  Error: (value) => {
    const { name, message, stack, code, cause, errors } = value as ErrorValue;
    const error = builtInError(name, message, cause === undefined ? undefined : { cause }, errors);
    if (stack !== undefined)
      Object.defineProperty(error, 'stack', { value: stack, configurable: true, writable: true });
    if (code !== undefined) Object.assign(error, { code });
    return error;
  },
};
