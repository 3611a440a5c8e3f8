import { currentScope } from '../body/scope.js';
import type { Settle } from '../step/step-host.js';

/** A step of the innermost saga, if there is one: the saga waits for it before it compensates. @throws {Error} when the saga has failed */
export function inSaga(name: string, settle: Settle): Settle {
  const { saga } = currentScope();
  if (saga === undefined) return settle;
  const end = saga.begins(name);
  return {
    resolve: (...args) => {
      settle.resolve(...args);
      end();
    },
    reject: (error) => {
      settle.reject(error);
      end();
    },
  };
}

/** The same for a call that returns its promise. */
export function followedInSaga<T>(name: string, call: () => Promise<T>): Promise<T> {
  const { saga } = currentScope();
  if (saga === undefined) return call();
  const end = saga.begins(name);
  try {
    const result = call();
    result.then(end, end);
    return result;
  } catch (error) {
    end();
    throw error;
  }
}
