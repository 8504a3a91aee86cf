/**
 * The only table of the REST API: the server's routes and checks, the typed client and the OpenAPI document are made
 * from it. The document shows the routes in this order.
 */
import type { z } from 'zod';
import { ARCHIVE_ROUTES } from './archive.ts';
import { DEPLOYMENT_ROUTES } from './deployments.ts';
import { HOST_ROUTES } from './hosts.ts';
import { IMAGE_ROUTES } from './images.ts';
import { OPERATION_ROUTES } from './operations.ts';
import { POOL_ROUTES } from './pools.ts';
import type { Route } from './route.ts';
import { SESSION_FILE_ROUTES } from './session-files.ts';
import { SESSION_TURN_ROUTES } from './session-turns.ts';
import { SESSION_ROUTES } from './sessions.ts';
import { SOURCE_ROUTES } from './sources.ts';
import { WORKLOAD_ROUTES } from './workloads.ts';

export const ROUTES = {
  ...WORKLOAD_ROUTES,
  ...SESSION_ROUTES,
  ...SESSION_FILE_ROUTES,
  ...SESSION_TURN_ROUTES,
  ...SOURCE_ROUTES,
  ...DEPLOYMENT_ROUTES,
  ...HOST_ROUTES,
  ...ARCHIVE_ROUTES,
  ...POOL_ROUTES,
  ...IMAGE_ROUTES,
  ...OPERATION_ROUTES,
} as const satisfies Record<string, Route>;

export type Routes = typeof ROUTES;
export type RouteName = keyof Routes;

/** Routes that answer with JSON of a schema; the others are documents and streams. */
export type JsonRouteName = {
  [Name in RouteName]: Routes[Name] extends { responses: object } ? Name : never;
}[RouteName];

/** Routes whose body is bytes. */
export type UploadRouteName = {
  [Name in RouteName]: Routes[Name] extends { upload: readonly string[] } ? Name : never;
}[RouteName];

type Parsed<R, Part extends string> =
  R extends Record<Part, infer Schema extends z.ZodType> ? { [P in Part]: z.output<Schema> } : unknown;
type Given<R, Part extends string> =
  R extends Record<Part, infer Schema extends z.ZodType>
    ? Record<string, never> extends z.input<Schema>
      ? { [P in Part]?: z.input<Schema> }
      : { [P in Part]: z.input<Schema> }
    : unknown;
/** A body may be left out only where its schema allows it: a schema of optional parts may still need one of them. */
type GivenBody<R> =
  R extends Record<'body', infer Schema extends z.ZodType>
    ? undefined extends z.input<Schema>
      ? { body?: z.input<Schema> }
      : { body: z.input<Schema> }
    : unknown;

/** What a handler receives: everything checked, defaults filled in. */
export type RouteInput<Name extends RouteName> = Parsed<Routes[Name], 'params'> &
  Parsed<Routes[Name], 'query'> &
  Parsed<Routes[Name], 'body'>;

/** What a caller must send. */
export type RouteRequest<Name extends RouteName> = Given<Routes[Name], 'params'> &
  Given<Routes[Name], 'query'> &
  GivenBody<Routes[Name]>;

type Responses<Name extends JsonRouteName> = Routes[Name]['responses'];

/** What a handler returns. */
export type RouteReply<Name extends JsonRouteName> = {
  [Status in keyof Responses<Name>]: {
    readonly status: Status;
    readonly body: Responses<Name>[Status] extends z.ZodType ? z.output<Responses<Name>[Status]> : never;
  };
}[keyof Responses<Name>];
