/** The parts of every REST route. Paths have `:name` for a parameter, `*name` at the end for one of several parts. */
import { z } from 'zod';

/** A parameter in the path of a route. */
export const PATH_PARAMETER = /([:*])(\w+)/g;
/** Bytes of any kind. */
export const BYTES_TYPE = 'application/octet-stream';
export const TAR_TYPE = 'application/x-tar';

export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly tag: 'workloads' | 'sessions' | 'sources' | 'deployments' | 'hosts and images' | 'service';
  readonly summary: string;
  readonly description?: string;
  /** Whether it answers without a token. */
  readonly open?: true;
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodType;
  /** Media types of a body of bytes, read as it arrives; a route has either this or a JSON body. */
  readonly upload?: readonly string[];
  /** JSON bodies by status. Every other status answers with a problem document. */
  readonly responses?: Readonly<Record<number, z.ZodType>>;
  /** Media type of a 200 that is not JSON. */
  readonly content?:
    | 'text/event-stream'
    | 'text/html'
    | 'text/plain'
    | 'application/json'
    | typeof BYTES_TYPE
    | typeof TAR_TYPE;
  /** Whether a part of the content may be asked for with `Range`: RFC 9110, one range, of bytes. */
  readonly ranges?: true;
}

export const MAX_PAGE = 200;
export const MAX_LOG_PAGE = 1000;
/** Longest time that a call may wait, ms. */
export const MAX_WAIT_MS = 30_000;

/** @returns the schema of the number of entries in a page */
export const pageLimit = (most: number, preset: number) => z.coerce.number().int().min(1).max(most).default(preset);

/** @returns whether a route answers HEAD, too */
export function answersHead({ method, responses, content }: Route): boolean {
  return method === 'GET' && (responses !== undefined || content === BYTES_TYPE || content === TAR_TYPE);
}
