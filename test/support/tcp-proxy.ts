import { connect, createServer, type Socket } from 'node:net';

/** Stands between client and server and does what networks do. */
export interface TcpProxy {
  /** `host:port` */
  readonly address: string;
  /** Cuts every connection now. */
  cut(): void;
  /** Cuts each connection after so many further bytes from the client; undefined: not. */
  cutAfterBytes: number | undefined;
  /** Connections swallow everything without an answer and without an end. */
  blackHole: boolean;
  /** Connections are accepted and closed at once, like those of a balancer that has lost all its backends. */
  refuse: boolean;
  /** Connections that were accepted. */
  readonly accepted: number;
  /** Connections that were cut. */
  readonly cuts: number;
  close(): Promise<void>;
}

export async function startTcpProxy(target: string): Promise<TcpProxy> {
  const [host, port] = target.split(':') as [string, string];
  const pairs = new Set<readonly [Socket, Socket]>();
  const state = {
    cutAfterBytes: undefined as number | undefined,
    blackHole: false,
    refuse: false,
    accepted: 0,
    cuts: 0,
  };
  const server = createServer((client) => {
    state.accepted++;
    if (state.refuse) {
      client.on('error', () => undefined);
      client.resume();
      client.end();
      return;
    }
    const upstream = connect(Number(port), host);
    const pair = [client, upstream] as const;
    pairs.add(pair);
    let leftBytes = state.cutAfterBytes;
    const end = () => {
      pairs.delete(pair);
      client.destroy();
      upstream.destroy();
    };
    for (const socket of pair) {
      socket.on('error', end);
      socket.on('close', end);
    }
    client.on('data', (chunk) => {
      if (state.blackHole) return;
      if (leftBytes !== undefined && chunk.length >= leftBytes) {
        upstream.write(chunk.subarray(0, leftBytes));
        state.cuts++;
        setImmediate(end);
        return;
      }
      if (leftBytes !== undefined) leftBytes -= chunk.length;
      upstream.write(chunk);
    });
    upstream.on('data', (chunk) => {
      if (!state.blackHole) client.write(chunk);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const bound = server.address();
  return {
    address: `127.0.0.1:${typeof bound === 'object' && bound !== null ? bound.port : 0}`,
    cut() {
      for (const [client, upstream] of pairs) {
        state.cuts++;
        client.destroy();
        upstream.destroy();
      }
      pairs.clear();
    },
    get cutAfterBytes() {
      return state.cutAfterBytes;
    },
    set cutAfterBytes(bytes) {
      state.cutAfterBytes = bytes;
    },
    get blackHole() {
      return state.blackHole;
    },
    set blackHole(on) {
      state.blackHole = on;
    },
    get refuse() {
      return state.refuse;
    },
    set refuse(on) {
      state.refuse = on;
    },
    get accepted() {
      return state.accepted;
    },
    get cuts() {
      return state.cuts;
    },
    async close() {
      for (const [client, upstream] of pairs) {
        client.destroy();
        upstream.destroy();
      }
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
