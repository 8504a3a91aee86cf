/** The orders over HTTP: `PUT`, `GET` and `POST …/stop` of `/orders/<id>`, and `GET …/events` as JSON lines. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isKilnError } from 'kiln-client';
import type { Orders } from './orders.ts';

export function createOrderServer(orders: Orders): Server {
  return createServer((request, response) => {
    handle(orders, request, response).catch((error: unknown) => {
      if (response.headersSent) return void response.destroy();
      const { status, body } = problemOf(error);
      answer(response, status, body);
    });
  });
}

async function handle(orders: Orders, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://backend');
  const [, orderId = '', part = ''] = /^\/orders\/([^/]+)(?:\/(stop|events))?$/.exec(url.pathname) ?? [];
  switch (orderId === '' ? '' : `${request.method} ${part}`) {
    case 'PUT ': {
      const { order, isNew } = await orders.start(orderId, url.searchParams.get('service') ?? '');
      return answer(response, isNew ? 201 : 200, order);
    }
    case 'GET ':
      return answer(response, 200, await orders.read(orderId));
    case 'POST stop': {
      const order = await orders.stop(orderId);
      return answer(response, order.done ? 200 : 202, order);
    }
    case 'GET events':
      return sendEvents(orders, orderId, url.searchParams.get('after') ?? undefined, response);
    default:
      return answer(response, 404, { code: 'NOT_FOUND' });
  }
}

async function sendEvents(
  orders: Orders,
  orderId: string,
  after: string | undefined,
  response: ServerResponse,
): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  const options = { signal: gone.signal, ...(after === undefined ? {} : { after }) };
  for await (const event of orders.follow(orderId, options)) {
    // Sent with the first event only: an order that does not exist must still get a 404.
    if (!response.headersSent) response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    response.write(`${JSON.stringify(event)}\n`);
  }
  response.end();
}

/** Distinguishes errors by their code, never by their text. */
function problemOf(error: unknown): { status: number; body: { code: string; message?: string } } {
  if (!isKilnError(error)) return { status: 500, body: { code: 'INTERNAL' } };
  const { code, message } = error;
  switch (code) {
    case 'SPEC_INVALID':
      return { status: 400, body: { code, message } };
    case 'NOT_FOUND':
      return { status: 404, body: { code, message } };
    case 'CONFLICT':
      // This order was started before, with a different service.
      return { status: 409, body: { code, message } };
    default:
      // TEMPORAL_UNAVAILABLE and STORE_UNAVAILABLE are retryable: the caller may repeat the same call.
      return { status: error.retryable ? 503 : 500, body: { code, message } };
  }
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`);
}
