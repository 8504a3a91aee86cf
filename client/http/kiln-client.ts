/** Typed client of the REST API, made of the route table. Knows nothing of Temporal. */
import { type JsonRouteName, ROUTES, type Route, type RouteReply, type RouteRequest } from '../../contracts/routes.ts';
import { call, type HttpClientOptions, type RequestParts } from './http-calls.ts';
import { type LogEvent, type LogStreamOptions, logEvents } from './log-events.ts';

export interface KilnClientOptions {
  /** Base URL of the gateway, e.g. `http://127.0.0.1:4800`. */
  readonly apiUrl: string;
  readonly token: string;
  readonly timeoutMs?: number;
  readonly maxBytes?: number;
  readonly fetch?: typeof fetch;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
}

type Arguments<Name extends JsonRouteName> =
  Record<string, never> extends RouteRequest<Name>
    ? [request?: RouteRequest<Name>, options?: CallOptions]
    : [request: RouteRequest<Name>, options?: CallOptions];

/**
 * One method for each route that answers with JSON, by its name in the table; it resolves to the body.
 * Every method throws KilnError: the code is that of the problem document, or API_UNAVAILABLE where no answer came.
 */
export type KilnClient = {
  readonly [Name in JsonRouteName]: (...args: Arguments<Name>) => Promise<RouteReply<Name>['body']>;
} & {
  /** The log of a workload from the first line (or `after`) on, as it is written, over broken connections. */
  streamWorkloadLogs(id: string, options?: LogStreamOptions): AsyncGenerator<LogEvent, void>;
};

const DEFAULTS = { timeoutMs: 60_000, maxBytes: 32 * 1024 * 1024 };

/** @returns a client. No request is made until a method is called. */
export function createKilnClient(options: KilnClientOptions): KilnClient {
  const http: HttpClientOptions = { ...DEFAULTS, fetch: globalThis.fetch, ...options };
  const methods = Object.entries<Route>(ROUTES)
    .filter(([, route]) => route.responses !== undefined)
    .map(
      ([name, route]) =>
        [name, (parts: RequestParts = {}, { signal }: CallOptions = {}) => call(http, route, parts, signal)] as const,
    );
  return {
    ...(Object.fromEntries(methods) as unknown as Omit<KilnClient, 'streamWorkloadLogs'>),
    streamWorkloadLogs: (id, stream = {}) => logEvents(http, id, stream),
  };
}
