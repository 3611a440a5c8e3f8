import type * as http from 'node:http';
import type * as http2 from 'node:http2';

/** A JSON document as it came, and its value. */
export interface JsonBody {
  readonly kind: 'json';
  readonly data: Uint8Array;
  readonly value: unknown;
}
export interface RefusedBody {
  readonly kind: 'refused';
  readonly status: 400 | 413 | 415;
  /** What is wrong, and what is expected. */
  readonly problem: string;
}

const decoder = new TextDecoder('utf-8', { fatal: true });

/** Reads the JSON body of a request; no body at all is null. Reads no more than it may keep. */
export async function readJson(
  request: http.IncomingMessage | http2.Http2ServerRequest,
  maxBytes: number,
): Promise<JsonBody | RefusedBody> {
  const type = request.headers['content-type'] ?? '';
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    return refused(
      415,
      `The body must be sent with the header Content-Type: application/json (curl --json does); got '${type.slice(0, 100)}'.`,
    );
  }
  const data = await readBody(request, maxBytes);
  if (data === undefined) return refused(413, `The body must have at most ${maxBytes} bytes.`);
  if (data.byteLength === 0) return { kind: 'json', data: Buffer.from('null'), value: null };
  try {
    return { kind: 'json', data, value: JSON.parse(decoder.decode(data)) };
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    return refused(400, `The body must be JSON in UTF-8: ${error.message}.`);
  }
}

const refused = (status: RefusedBody['status'], problem: string): RefusedBody => ({ kind: 'refused', status, problem });

/** @returns undefined when there is more than `maxBytes` */
async function readBody(
  request: http.IncomingMessage | http2.Http2ServerRequest,
  maxBytes: number,
): Promise<Buffer | undefined> {
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) return undefined;
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.byteLength;
      if (bytes <= maxBytes) chunks.push(chunk);
      else {
        request.pause();
        resolve(undefined);
      }
    });
    request.once('end', () => resolve(Buffer.concat(chunks)));
    request.once('error', reject);
    request.once('close', () => reject(new Error('The request ended before its body.')));
  });
}
