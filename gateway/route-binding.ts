/** Makes the server's routes from the route table: each part of a request is parsed before its handler gets it. */
import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { problem } from '../contracts/api/problem.ts';
import { answersHead, type Route } from '../contracts/api/routes/route.ts';
import {
  type JsonRouteName,
  ROUTES,
  type RouteInput,
  type RouteName,
  type RouteReply,
  type UploadRouteName,
} from '../contracts/api/routes/route-table.ts';
import { KilnError } from '../domain/failures.ts';
import { mediaType } from './http-server.ts';
import { InvalidRequest, sendProblem, UnsupportedBody } from './problem-replies.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Route of the table; absent where none matched. */
    route?: Route;
  }
}

/** A body of bytes that is still arriving. */
export interface UploadBody {
  /** One of the media types that the route accepts: without parameters, in lower case. */
  readonly type: string;
  readonly bytes: Readable;
}

type RawRouteName = Exclude<RouteName, JsonRouteName>;

/** A handler for every route: the compiler reports a missing one. */
export type RouteHandlers = {
  readonly [Name in Exclude<JsonRouteName, UploadRouteName>]: (
    input: RouteInput<Name>,
    request: FastifyRequest,
    reply: FastifyReply,
  ) => Promise<RouteReply<Name>>;
} & {
  readonly [Name in UploadRouteName]: (
    input: RouteInput<Name> & { readonly upload: UploadBody },
    request: FastifyRequest,
    reply: FastifyReply,
  ) => Promise<RouteReply<Name>>;
} & {
  readonly [Name in RawRouteName]: (
    input: RouteInput<Name>,
    request: FastifyRequest,
    reply: FastifyReply,
  ) => Promise<unknown>;
};

type AnyHandler = (input: never, request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

/** Adds every route of the table, the check of the token, and the answers for unknown routes. */
export function bindRoutes(
  server: FastifyInstance,
  handlers: RouteHandlers,
  isAllowed: (header: string | undefined) => boolean,
): void {
  server.addHook('onRequest', async (request, reply) => {
    const { route } = request.routeOptions.config;
    // Before the body is read: the framework refuses some methods for their headers alone.
    if (route === undefined) return sendUnknown(request, reply);
    if (route.open === true || isAllowed(request.headers.authorization)) return;
    throw new KilnError(
      'UNAUTHORIZED',
      'Give the token of this stack as `Authorization: Bearer <token>`; `dev.json` in the home of `kiln dev` holds it.',
    );
  });
  for (const [name, handler] of Object.entries(handlers))
    bindRoute(server, ROUTES[name as RouteName], handler as AnyHandler);
  server.setNotFoundHandler((request, reply) => void sendUnknown(request, reply));
}

function bindRoute(server: FastifyInstance, route: Route, handler: AnyHandler): void {
  server.route({
    method: route.method,
    // The server knows no name for the rest of a path.
    url: route.path.replace(/\*\w+$/, '*'),
    config: { route },
    exposeHeadRoute: answersHead(route),
    handler: async (request, reply) => {
      const answer = await handler(parseRequest(route, request) as never, request, reply);
      if (route.responses === undefined) return answer;
      const { status, body } = answer as { status: number; body: unknown };
      return reply.code(status).send(body);
    },
  });
}

function parseRequest(route: Route, request: FastifyRequest): Record<string, unknown> {
  const errors: InvalidRequest['errors'] = [];
  const parsed: Record<string, unknown> = {};
  const parts = {
    params: ['path', namedParams(route, request.params)],
    query: ['query', request.query],
    body: ['body', request.body],
  } as const;
  for (const part of ['params', 'query', 'body'] as const) {
    const schema: z.ZodType | undefined = route[part];
    if (schema === undefined) continue;
    const [where, given] = parts[part];
    const result = schema.safeParse(given);
    if (result.success) parsed[part] = result.data;
    else errors.push(...issues(where, result.error));
  }
  if (route.upload !== undefined) parsed.upload = uploadOf(route.upload, request);
  errors.push(...unknownParameters(route, request.query));
  if (errors.length > 0) throw new InvalidRequest(errors);
  return parsed;
}

function namedParams({ path }: Route, given: unknown): unknown {
  const rest = /\*(\w+)$/.exec(path)?.[1];
  if (rest === undefined) return given;
  const { '*': value, ...others }: Record<string, unknown> = { ...Object(given) };
  return { ...others, [rest]: value };
}

function uploadOf(types: readonly string[], { headers, body, raw }: FastifyRequest): UploadBody {
  const type = mediaType(headers['content-type']);
  // A parsed body cannot be read as bytes.
  if (body === raw && types.includes(type)) return { type, bytes: raw };
  throw new UnsupportedBody(`Send the body as ${types.join(' or ')}.`);
}

/** A misspelt filter must not be answered as if there were no filter. */
function unknownParameters(route: Route, query: unknown): InvalidRequest['errors'] {
  // Probes and caches may add parameters to the addresses that need no token.
  if (route.open === true) return [];
  const known = Object.keys(route.query?.shape ?? {});
  const unknown = Object.keys(Object(query)).filter((name) => !known.includes(name));
  const message = known.length === 0 ? 'no parameter is known here' : `not known here; there are ${known.join(', ')}`;
  return unknown.slice(0, MAX_ISSUES).map((name) => ({ in: 'query', path: name.slice(0, 200), message }));
}

const MAX_ISSUES = 20;

function issues(where: string, error: z.ZodError): InvalidRequest['errors'] {
  return error.issues.slice(0, MAX_ISSUES).map((issue) => ({
    in: where,
    path: issue.path.map(String).join('.').slice(0, 200),
    message: issue.message.slice(0, 500),
  }));
}

function sendUnknown(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const methods = Object.values<Route>(ROUTES)
    .filter((route) => matches(route.path, request.url))
    .flatMap((route) => (answersHead(route) ? [route.method, 'HEAD'] : [route.method]));
  if (methods.length === 0) return sendProblem(reply, problem('NOT_FOUND', 'There is no such path; /docs lists them.'));
  const allowed = [...new Set<string>(methods)].sort().join(', ');
  const found = problem('METHOD_NOT_ALLOWED', `This path answers ${allowed} only.`);
  return sendProblem(reply.header('allow', allowed), found);
}

/** @returns whether a URL's path matches a route, for any method. */
function matches(pattern: string, url: string): boolean {
  const wanted = pattern.split('/');
  // Some clients send the whole address to this server, as they would to a proxy.
  const path = url.replace(/^https?:\/\/[^/?]*/i, '').split('?')[0] ?? '';
  const given = path.split('/').map(decoded);
  const takesRest = wanted.at(-1)?.startsWith('*') === true;
  if (takesRest ? given.length < wanted.length : given.length !== wanted.length) return false;
  return wanted.every((part, index) => /^[:*]/.test(part) || part === given[index]);
}

/** @returns a part of a path without percent encoding; where the encoding is wrong, unchanged. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
