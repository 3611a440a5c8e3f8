import http from 'node:http';
import { measure, measureFanout, steps } from './lib.mjs';

const agent = new http.Agent({ keepAlive: true, maxSockets: 1_000 });
const call = (handler, input) =>
  new Promise((resolve, reject) => {
    const body = JSON.stringify(input);
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const request = http.request(
      { port: 8080, host: '127.0.0.1', path: `/bench/${handler}`, method: 'POST', agent, headers },
      (response) => {
        response.resume();
        response.on('end', () =>
          response.statusCode === 200 ? resolve() : reject(new Error(`status ${response.statusCode}`)),
        );
      },
    );
    request.on('error', reject);
    request.end(body);
  });
if (!(await measureFanout((count) => call('parent', count)))) await measure(() => call('run', steps));
process.exit(0);
