export type HttpVersion = 'HTTP/1.1' | 'HTTP/2';

/** The beginning of the HTTP/2 preface that no HTTP/1.1 request has: its methods are words, followed by a path. */
const HTTP2_PREFACE = Buffer.from('PRI *');

/** @returns undefined when so few bytes may still become either: POST, PUT and PATCH begin with a P too */
export function spokenVersion(bytes: Uint8Array): HttpVersion | undefined {
  const known = Math.min(bytes.length, HTTP2_PREFACE.length);
  if (!HTTP2_PREFACE.subarray(0, known).equals(bytes.subarray(0, known))) return 'HTTP/1.1';
  return known === HTTP2_PREFACE.length ? 'HTTP/2' : undefined;
}
