/** Files in the workspaces of sessions, over HTTP. */
import type { z } from 'zod';
import { BYTES_TYPE } from '../../../contracts/api/routes/route.ts';
import { ROUTES } from '../../../contracts/api/routes/route-table.ts';
import { writtenFileSchema } from '../../../contracts/api/session-files.ts';
import { defined } from '../../../domain/defined.ts';
import { KilnError } from '../../../domain/failures.ts';
import { call, type HttpClientOptions, problemOf, type RequestParts, send } from '../http-calls.ts';
import type { CallOptions } from '../route-methods.ts';

export interface SessionFilePlace {
  readonly thread: string;
  /** Below /workspace. */
  readonly path: string;
  /** Default `default`. */
  readonly project?: string;
}

export interface ReadPlace extends SessionFilePlace {
  /** As it was after this turn. Absent: as it is now. */
  readonly turn?: number;
}

export interface ReadOptions extends CallOptions {
  /** Bytes from `from` up to, not including, `to`, or the end: whole numbers from 0 on. */
  readonly range?: { readonly from: number; readonly to?: number };
}

export interface WriteOptions extends CallOptions {
  /** Resolve once it is in the store, too, or the gateway has waited for 60 s: `saved` says whether it is. */
  readonly wait?: 'saved';
}

export interface FileMethods {
  /**
   * The content of a file, as it arrives.
   * @throws NOT_FOUND; SPEC_INVALID, also where the range is none, or has no byte of it; UNSUPPORTED where the gateway
   *   knows no ranges; SESSION_CLOSED, SESSION_EXPIRED; API_UNAVAILABLE
   */
  getSessionFile(place: ReadPlace, options?: ReadOptions): Promise<ReadableStream<Uint8Array>>;
  /** The whole workspace as it was after a turn, as a tar that arrives. @throws NOT_FOUND, API_UNAVAILABLE */
  getTurnTar(
    of: { readonly thread: string; readonly turn: number; readonly project?: string },
    options?: CallOptions,
  ): Promise<ReadableStream<Uint8Array>>;
  /** Writes a whole file, at most 64 MiB. @throws PAYLOAD_TOO_LARGE, CONFLICT, as `getSessionFile` */
  putSessionFile(
    place: SessionFilePlace,
    bytes: Blob,
    options?: WriteOptions,
  ): Promise<z.output<typeof writtenFileSchema>>;
}

/** @returns the methods. No request is made until one is called. */
export function fileMethods(http: HttpClientOptions & { readonly uploadTimeoutMs: number }): FileMethods {
  return {
    async getSessionFile({ turn, ...place }, { signal, range } = {}) {
      const { params, query } = partsOf(place);
      const headers = range === undefined ? {} : { range: rangeHeader(range) };
      const reply =
        turn === undefined
          ? await send(http, ROUTES.getSessionFile, { params, query }, { signal, headers })
          : await send(http, ROUTES.getTurnFile, { params: { ...params, turn }, query }, { signal, headers });
      if (range !== undefined && reply.ok && reply.status !== 206) throw await noPart(reply);
      return contentOf(http, reply);
    },
    async getTurnTar({ thread, turn, project }, { signal } = {}) {
      const parts = { params: { thread, turn }, query: defined({ project }) };
      return contentOf(http, await send(http, ROUTES.getTurnTar, parts, { signal }));
    },
    async putSessionFile(place, bytes, { signal, wait } = {}) {
      const { params, query } = partsOf(place);
      const parts = { params, query: { ...query, ...defined({ wait }) }, upload: { type: BYTES_TYPE, bytes } };
      const patient = { ...http, timeoutMs: http.uploadTimeoutMs };
      return writtenFileSchema.parse(await call(patient, ROUTES.putSessionFile, parts, signal));
    },
  };
}

async function contentOf(http: HttpClientOptions, reply: Response): Promise<ReadableStream<Uint8Array>> {
  if (!reply.ok) throw await problemOf(http, reply);
  return reply.body ?? new Blob([]).stream();
}

/**
 * An empty range is none that a header could name: it is that of no byte, which the server refuses, too.
 * @throws SPEC_INVALID
 */
function rangeHeader({ from, to = Number.POSITIVE_INFINITY }: { readonly from: number; readonly to?: number }): string {
  // No file goes so far.
  const isToEnd = to > Number.MAX_SAFE_INTEGER;
  if (!isPosition(from) || !(isToEnd || isPosition(to))) {
    throw new KilnError('SPEC_INVALID', `A range goes from one whole number to another: not ${from} to ${to}.`);
  }
  if (to <= from) return 'bytes=-0';
  return `bytes=${from}-${isToEnd ? '' : to - 1}`;
}

const isPosition = (at: number) => Number.isSafeInteger(at) && at >= 0;

/** The whole file in place of a part would be taken for it. */
async function noPart(reply: Response): Promise<KilnError> {
  await reply.body?.cancel();
  return new KilnError(
    'UNSUPPORTED',
    'The gateway sends whole files only; leave out the range, or use a newer gateway.',
  );
}

function partsOf({ thread, path, project }: SessionFilePlace): Required<Pick<RequestParts, 'params' | 'query'>> {
  return { params: { thread, path }, query: defined({ project }) };
}
