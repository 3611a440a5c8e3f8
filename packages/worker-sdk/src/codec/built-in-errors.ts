const BUILT_IN = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError } as const;

/**
 * An error of the class with that name when JavaScript has it, else an Error with that name.
 *
 * @param errors of an AggregateError
 */
export function builtInError(
  name: string,
  message: string,
  options: ErrorOptions | undefined,
  errors: readonly unknown[] = [],
): Error {
  if (name === 'AggregateError') return new AggregateError(errors, message, options);
  const known = Object.hasOwn(BUILT_IN, name) ? BUILT_IN[name as keyof typeof BUILT_IN] : undefined;
  if (known !== undefined) return new known(message, options);
  const error = new Error(message, options);
  Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true, enumerable: false });
  return error;
}
