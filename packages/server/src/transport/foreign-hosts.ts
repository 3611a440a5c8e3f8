import { isIP } from 'node:net';
import { answer, type HttpHandler } from './http-probes.js';

/**
 * Refuses calls that name a foreign host when the server listens on loopback. Otherwise any web page could have its own name
 * resolved to 127.0.0.1 and make the reader's browser call this server (DNS rebinding). Addresses are safe: a page cannot
 * have one as its origin without serving it.
 */
export function refuseForeignHosts(listenHost: string, next: HttpHandler): HttpHandler {
  if (!isLoopback(listenHost)) return next;
  return (request, response) => {
    // HTTP/2 has a pseudo-header instead.
    const named = request.headers.host ?? request.headers[':authority'];
    const host = hostOf(typeof named === 'string' ? named : '');
    if (host === '' || host === listenHost || isLocalName(host) || isIP(host) !== 0) next(request, response);
    else {
      answer(
        response,
        403,
        `This server listens on ${listenHost} and is not called '${host.slice(0, 100)}'. Call it by address or as localhost.`,
      );
    }
  };
}

const isLocalName = (host: string) => host === 'localhost' || host.endsWith('.localhost');
const isLoopback = (host: string) =>
  isLocalName(host) || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));

/** Without port and brackets, in lower case. */
function hostOf(named: string): string {
  const match = /^\[([^\]]*)\](?::\d*)?$|^([^:]*)(?::\d*)?$/.exec(named.toLowerCase());
  return match === null ? named : (match[1] ?? match[2] ?? '');
}
