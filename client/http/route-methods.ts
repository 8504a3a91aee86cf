/** One method for each route of the API that answers with JSON, by its name in the table. */
import type { Route } from '../../contracts/api/routes/route.ts';
import {
  type JsonRouteName,
  ROUTES,
  type RouteReply,
  type RouteRequest,
  type UploadRouteName,
} from '../../contracts/api/routes/route-table.ts';
import { call, type HttpClientOptions, type RequestParts } from './http-calls.ts';

export interface CallOptions {
  readonly signal?: AbortSignal;
}

type MethodName = Exclude<JsonRouteName, UploadRouteName>;

type Arguments<Name extends MethodName> =
  Record<string, never> extends RouteRequest<Name>
    ? [request?: RouteRequest<Name>, options?: CallOptions]
    : [request: RouteRequest<Name>, options?: CallOptions];

/**
 * Each method resolves to the body of the answer.
 * It throws KilnError: the code is that of the problem document, or API_UNAVAILABLE where no answer came.
 */
export type RouteMethods = {
  readonly [Name in MethodName]: (...args: Arguments<Name>) => Promise<RouteReply<Name>['body']>;
};

/** @returns the methods. No request is made until one is called. */
export function routeMethods(http: HttpClientOptions): RouteMethods {
  const methods = Object.entries<Route>(ROUTES)
    .filter(([, route]) => route.responses !== undefined && route.upload === undefined)
    .map(
      ([name, route]) =>
        [name, (parts: RequestParts = {}, { signal }: CallOptions = {}) => call(http, route, parts, signal)] as const,
    );
  return Object.fromEntries(methods) as unknown as RouteMethods;
}
