/**
 * Waits a limited time for an answer, because a black-holed connection never answers.
 *
 * @param onLate creates the error to throw after `ms`
 */
export async function answerWithin<T>(work: PromiseLike<T>, ms: number, onLate: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expiry = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(onLate()), ms);
    timer.unref();
  });
  try {
    return await Promise.race([work, expiry]);
  } finally {
    clearTimeout(timer);
  }
}
