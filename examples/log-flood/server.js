// Floods its own log on request: POST /flood?lines=100000&bytes=100&perSecond=5000. Without `perSecond` it writes as
// fast as stdout accepts; `ms` ends the flood after that time. GET / reports the progress and answers throughout.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';

const BATCH = 100;
const state = { lines: 0, bytes: 0, flooding: false };

async function flood({ lines, bytes, perSecond, ms }) {
  state.flooding = true;
  const from = Date.now();
  for (let done = 0; done < lines && Date.now() - from < ms; ) {
    const batch = Math.min(BATCH, lines - done);
    const text = Array.from(
      { length: batch },
      (_, n) => `${`flood ${state.lines + n} `.padEnd(bytes - 1, '.')}\n`,
    ).join('');
    // Continues when the pipe has taken everything: if the log held up its service, it would show here.
    if (!process.stdout.write(text)) await once(process.stdout, 'drain');
    state.lines += batch;
    state.bytes += text.length;
    done += batch;
    const aheadMs = (done / perSecond) * 1000 - (Date.now() - from);
    await (aheadMs > 0 ? pause(aheadMs) : turn());
  }
  state.flooding = false;
}

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://log-flood');
  const wanted = (name, otherwise) => Number(searchParams.get(name) ?? otherwise);
  if (request.method === 'POST' && pathname === '/flood' && !state.flooding) {
    const [lines, ms] = [wanted('lines', 1e12), wanted('ms', 60_000)];
    void flood({ lines, ms, bytes: wanted('bytes', 100), perSecond: wanted('perSecond', Infinity) });
  }
  response.setHeader('content-type', 'application/json').end(JSON.stringify(state));
});
server.listen(Number(process.env.PORT ?? 8080));
