/** The HTTP server under the routes: limits on every request, and problem documents for what is not a valid request. */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import Fastify, { type FastifyInstance } from 'fastify';
import { PROBLEM_TYPE, type Problem, problem } from '../contracts/api/problem.ts';
import { BYTES_TYPE } from '../contracts/api/routes/route.ts';
import { GZIP_TYPE, TAR_TYPE } from '../contracts/api/source.ts';
import { isKilnError, KilnError } from '../domain/failures.ts';
import { problemOfError, sendProblem, UnsupportedBody } from './problem-replies.ts';

export interface HttpServerLimits {
  readonly bodyBytes: number;
  /** Time for a request to arrive completely. */
  readonly requestMs: number;
  /** The same for a request whose body is bytes. */
  readonly uploadMs: number;
}

/** @returns a server without routes that reads JSON bodies. */
export function createHttpServer(limits: HttpServerLimits): FastifyInstance {
  const server = Fastify({
    logger: false,
    bodyLimit: limits.bodyBytes,
    requestTimeout: limits.uploadMs,
    forceCloseConnections: true,
    http: {
      headersTimeout: limits.requestMs,
      connectionsCheckingInterval: Math.ceil(limits.requestMs / 4),
      // Refused below with a problem document, like every other bad request.
      requireHostHeader: false,
    },
    // A malformed URL is refused before the route is looked up.
    frameworkErrors: (error, _request, reply) => void sendProblem(reply, problemOfError(error)),
    clientErrorHandler: (error, socket) => answerBrokenRequest(error, socket),
  });
  server.server.on('connect', (_request: IncomingMessage, socket: Duplex) => {
    end(socket, problem('METHOD_NOT_ALLOWED', 'This is an API, no proxy: CONNECT is not answered.'), [
      'allow: GET, HEAD, POST',
    ]);
  });
  server.server.on('checkExpectation', (_request, response) => {
    const found = problem('UNSUPPORTED', 'Leave out the `Expect` header, or send `100-continue`.', 417);
    const body = Buffer.from(JSON.stringify(found));
    const headers = { 'content-type': PROBLEM_TYPE, 'content-length': body.length, connection: 'close' };
    response.writeHead(found.status, headers).end(body);
  });
  server.addHook('onRequest', async (request) => {
    if (request.raw.httpVersion === '1.1' && request.headers.host === undefined) {
      throw new KilnError('SPEC_INVALID', 'The request has no `Host` header.');
    }
  });
  parseJsonBodies(server);
  passUploadsOn(server);
  limitTimeOfBodies(server, limits.requestMs);
  return server;
}

/** An empty body counts as no body, whatever its type; a body that is not JSON is the caller's error. */
function parseJsonBodies(server: FastifyInstance): void {
  server.removeAllContentTypeParsers();
  server.addHook('onRequest', async ({ headers, is404 }) => {
    // No handler reads its body.
    if (is404) return;
    const encoding = headers['content-encoding']?.trim().toLowerCase() ?? 'identity';
    if (encoding !== 'identity') throw new UnsupportedBody('Send the body as it is, without `Content-Encoding`.');
    const charset =
      /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(headers['content-type'] ?? '')?.[1]?.toLowerCase() ?? 'utf-8';
    if (charset !== 'utf-8' && charset !== 'utf8') throw new UnsupportedBody('Send the body in UTF-8.');
  });
  server.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => {
    if (body.length === 0) return done(null, undefined);
    try {
      done(null, JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(body)), wellFormed));
    } catch (error) {
      done(isKilnError(error) ? error : new KilnError('SPEC_INVALID', 'The body is no JSON in UTF-8.'), undefined);
    }
  });
}

/** The handler of an upload route reads a body of bytes as it arrives; all other routes refuse its type. */
function passUploadsOn(server: FastifyInstance): void {
  server.addContentTypeParser([TAR_TYPE, GZIP_TYPE, BYTES_TYPE], (request, payload, done) => {
    const { upload } = request.routeOptions.config.route ?? {};
    if (upload?.includes(mediaType(request.headers['content-type'])) === true) return done(null, payload);
    done(new UnsupportedBody('Send the body as application/json.'), undefined);
  });
}

/** @returns a media type without its parameters, in lower case. */
export function mediaType(header: string | undefined): string {
  return (header ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
}

/** Node.js has one limit for all requests: that is the limit for uploads; other requests get theirs here. */
function limitTimeOfBodies(server: FastifyInstance, requestMs: number): void {
  server.addHook('onRequest', async (request, reply) => {
    if (request.routeOptions.config.route?.upload !== undefined) return;
    const { raw } = request;
    const timer = setTimeout(() => {
      if (!raw.complete) end(raw.socket, brokenRequest('ERR_HTTP_REQUEST_TIMEOUT'));
    }, requestMs);
    reply.raw.once('close', () => clearTimeout(timer));
  });
  server.addHook('onResponse', async ({ raw }) => {
    if (raw.complete) return;
    // The answer was sent before the body arrived: Node.js no longer limits how long the rest may take.
    setTimeout(() => !raw.complete && raw.socket.destroy(), requestMs).unref();
  });
}

/**
 * Refuses lone halves of a character pair: they cannot be written as UTF-8, so later code would fail. Refuses a key
 * `__proto__`: it would be dropped without notice.
 */
function wellFormed(key: string, value: unknown): unknown {
  if (key === '__proto__')
    throw new KilnError('SPEC_INVALID', 'The body has a key `__proto__`, which no object may have.');
  if (!key.isWellFormed() || (typeof value === 'string' && !value.isWellFormed())) {
    throw new KilnError('SPEC_INVALID', 'The body has text with half a surrogate pair, which is no character.');
  }
  return value;
}

type BrokenRequest = Error & { readonly code?: string };

/** Answers what the HTTP parser refused, or what was too slow. Ends the connection: its position is unknown. */
function answerBrokenRequest(error: BrokenRequest, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  end(socket, brokenRequest(error.code));
}

function brokenRequest(code: string | undefined): Problem {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return problem('SPEC_INVALID', 'The request did not arrive whole in time; send it without pauses.', 408);
    case 'HPE_HEADER_OVERFLOW':
      return problem('PAYLOAD_TOO_LARGE', 'The headers are too large; send at most 16 KiB of them.', 431);
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return problem('PAYLOAD_TOO_LARGE', 'The chunk extensions are too large; send none.', 413);
    default:
      return problem('SPEC_INVALID', 'This is no well-formed HTTP/1.1 request.', 400);
  }
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Payload Too Large',
  431: 'Request Header Fields Too Large',
};

function end(socket: Duplex, found: Problem, headers: readonly string[] = []): void {
  const body = JSON.stringify(found);
  const head = [
    `HTTP/1.1 ${found.status} ${REASONS[found.status] ?? ''}`,
    `content-type: ${PROBLEM_TYPE}`,
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
    ...headers,
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
}
