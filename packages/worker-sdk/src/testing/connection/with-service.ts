import type { Connection } from '../../rpc/connection.js';

type ServiceOf = Connection['service'];

/** The connection with other clients of its services; everything else is its own. */
export function withService(
  connection: Connection,
  service: (definition: Parameters<ServiceOf>[0]) => object,
): Connection {
  return new Proxy(connection, {
    get(target, name) {
      if (name === 'service') return service;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
