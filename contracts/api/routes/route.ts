/** What every route of the REST API is made of. Paths are in the server's form, `:name` for a parameter. */
import { z } from 'zod';

export interface Route {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly tag: 'workloads' | 'sources' | 'deployments' | 'hosts and images' | 'service';
  readonly summary: string;
  readonly description?: string;
  /** Whether it answers without a token. */
  readonly open?: true;
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodType;
  /** Media types of a body of bytes, read as it comes; no route has both. */
  readonly upload?: readonly string[];
  /** JSON bodies by status. Every other status answers with a problem document. */
  readonly responses?: Readonly<Record<number, z.ZodType>>;
  /** Media type of a 200 that is no JSON. */
  readonly content?: 'text/event-stream' | 'text/html' | 'text/plain' | 'application/json';
}

export const MAX_PAGE = 200;
export const MAX_LOG_PAGE = 1000;
/** Longest time that a call waits for what it has asked for, ms. */
export const MAX_WAIT_MS = 30_000;

/** @returns the schema of how many entries a page has */
export const pageLimit = (most: number, preset: number) => z.coerce.number().int().min(1).max(most).default(preset);
